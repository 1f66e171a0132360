//! The tree does what a kernel does.

use super::*;
use crate::vfs::{ImageFormat, ImageInfo};

fn tree() -> Vfs {
    Vfs::new(1 << 30)
}

#[test]
fn files_are_written_listed_renamed_and_removed() {
    let mut vfs = tree();
    vfs.write("/tmp/a", b"one").unwrap();
    vfs.write("/tmp/b", b"two").unwrap();
    vfs.rename("/tmp/a", "/tmp/b").unwrap();
    assert_eq!(vfs.list("/tmp").unwrap(), ["b"]);
    assert_eq!(vfs.read("/tmp/b").unwrap(), b"one");
    vfs.remove_file("/tmp/b").unwrap();
    assert_eq!(vfs.read("/tmp/b"), Err(FsError::NotFound));
    assert_eq!(vfs.space("/tmp").used, 0);
}

#[test]
fn refusals_are_those_of_the_kernel() {
    let mut vfs = tree();
    vfs.write("/tmp/f", b"").unwrap();
    vfs.create_dir_all("/tmp/d/e").unwrap();
    assert_eq!(vfs.create_dir("/tmp/d"), Err(FsError::Exists));
    assert_eq!(vfs.create_dir("/none/d"), Err(FsError::NotFound));
    assert_eq!(vfs.create_dir("/tmp/f/d"), Err(FsError::NotADirectory));
    assert_eq!(vfs.remove_dir("/tmp/d"), Err(FsError::NotEmpty));
    assert_eq!(vfs.remove_file("/tmp/d"), Err(FsError::IsADirectory));
    assert_eq!(vfs.rename("/tmp/f", "/tmp/d"), Err(FsError::IsADirectory));
    assert_eq!(vfs.rename("/tmp/d", "/tmp/d/e/x"), Err(FsError::Invalid));
    assert_eq!(vfs.write(&format!("/tmp/{}", "x".repeat(256)), b""), Err(FsError::NameTooLong));
    assert_eq!(vfs.remove_dir("/"), Err(FsError::Exists));
}

#[test]
fn links_are_followed_and_loops_found() {
    let mut vfs = tree();
    vfs.create_dir_all("/etc/pve/nodes/pve1").unwrap();
    vfs.symlink("nodes/pve1", "/etc/pve/local").unwrap();
    vfs.write("/etc/pve/local/x", b"1").unwrap();
    assert_eq!(vfs.real_path("/etc/pve/local/x").unwrap(), "/etc/pve/nodes/pve1/x");
    assert_eq!(vfs.stat_link("/etc/pve/local").unwrap().kind, Kind::Symlink);
    vfs.symlink("/tmp/loop", "/tmp/loop").unwrap();
    assert_eq!(vfs.read("/tmp/loop"), Err(FsError::Loop));
}

#[test]
fn a_full_file_system_keeps_what_fits_and_refuses_the_rest() {
    let mut vfs = tree();
    vfs.mount("/small", "/dev/sdb1", 8192).unwrap();
    assert_eq!(vfs.write("/small/f", &[1; 100_000]), Err(FsError::NoSpace));
    assert_eq!(vfs.stat("/small/f").unwrap().size, 8192);
    assert_eq!(vfs.space("/small/f").available, 0);
    assert_eq!(vfs.space("/tmp").used, 0);
    assert_eq!(vfs.rename("/small/f", "/tmp/f"), Err(FsError::CrossDevice));
    vfs.remove_file("/small/f").unwrap();
    assert_eq!(vfs.space("/small").available, 8192);
}

#[test]
fn an_open_file_outlives_its_name() {
    let mut vfs = tree();
    let handle = vfs.open_new("/tmp/part", 0o600).unwrap();
    vfs.handle_write(handle, 0, b"data").unwrap();
    vfs.remove_file("/tmp/part").unwrap();
    assert_eq!(vfs.handle_read(handle, 0, 10).unwrap(), b"data");
    assert_eq!(vfs.space("/").used, 4096);
    vfs.close(handle);
    assert_eq!(vfs.space("/").used, 0);
}

#[test]
fn images_have_a_virtual_size_and_count_what_they_allocate() {
    let mut vfs = tree();
    let info = ImageInfo { format: ImageFormat::Qcow2, virtual_size: 160 << 20, backing_file: None };
    vfs.write_image("/var/tmp/i.qcow2", &info, 18_093_056, 18_093_056).unwrap();
    assert_eq!(vfs.image("/var/tmp/i.qcow2").unwrap(), info);
    assert_eq!(vfs.stat("/var/tmp/i.qcow2").unwrap().size, 18_093_056);
    assert_eq!(vfs.space("/var/tmp").used, 18_093_056);
    vfs.copy("/var/tmp/i.qcow2", "/var/tmp/j.qcow2").unwrap();
    vfs.resize_image("/var/tmp/j.qcow2", 1 << 30).unwrap();
    assert_eq!(vfs.image("/var/tmp/j.qcow2").unwrap().virtual_size, 1 << 30);
    assert_eq!(vfs.image("/var/tmp/i.qcow2").unwrap().virtual_size, 160 << 20);
    assert_eq!(vfs.resize_image("/var/tmp/j.qcow2", 1), Err(FsError::Invalid));
}

#[test]
fn writes_to_dev_null_vanish() {
    let mut vfs = tree();
    vfs.write("/dev/null", b"x").unwrap();
    assert_eq!(vfs.read("/dev/null").unwrap(), b"");
}
