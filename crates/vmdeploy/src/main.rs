//! The `vmdeploy` command; everything is in the library half of this crate, so that tests reach it.

fn main() -> std::process::ExitCode {
    vmdeploy::main()
}
