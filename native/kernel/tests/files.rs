//! Batches of files on the real file system.
#![cfg(unix)]

use graviton_kernel_core::files::{Stopped, rename_files, write_files};
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const NOENT: i32 = 2;
const EXIST: i32 = 17;

struct Place(PathBuf, File);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("graviton-kernel-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let folder = File::open(&path).unwrap();
        Self(path, folder)
    }

    fn write(&self, names: &[&CStr], content: &[u8], mode: u32) -> Result<(), Stopped> {
        write_files(self.1.as_fd(), names.iter().map(|name| (*name, content)), mode)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_written_whole_with_their_mode_and_renamed() {
    let place = Place::new("whole");
    let content = vec![7; 3_000_000];
    place.write(&[c"a", c"b"], &content, 0o400).unwrap();
    place.write(&[c"empty"], b"", 0o640).unwrap();
    rename_files(place.1.as_fd(), [(c"a", c"c"), (c"b", c"empty")]).unwrap();
    assert_eq!(place.names(), ["c", "empty"]);
    for name in ["c", "empty"] {
        assert_eq!(fs::read(place.0.join(name)).unwrap(), content);
        assert_eq!(fs::metadata(place.0.join(name)).unwrap().permissions().mode() & 0o777, 0o400);
    }
}

#[test]
fn a_name_that_is_taken_stops_the_batch_there() {
    let place = Place::new("taken");
    std::os::unix::fs::symlink("nowhere", place.0.join("link")).unwrap();
    let stopped = place.write(&[c"a", c"b", c"link", c"d"], b"x", 0o400).unwrap_err();
    assert_eq!(stopped, Stopped { errno: EXIST, index: 2, made: 2 });
    assert_eq!(place.names(), ["a", "b", "link"]);
}

#[test]
fn a_rename_that_fails_leaves_those_before_it() {
    let place = Place::new("rename");
    place.write(&[c"a", c"b"], b"x", 0o400).unwrap();
    let stopped = rename_files(place.1.as_fd(), [(c"a", c"A"), (c"missing", c"B"), (c"b", c"C")]).unwrap_err();
    assert_eq!(stopped, Stopped { errno: NOENT, index: 1, made: 1 });
    assert_eq!(place.names(), ["A", "b"]);
}
