//! Tests of `pve-ssh` against OpenSSH in containers: `make test-containers`. There is no code here.
