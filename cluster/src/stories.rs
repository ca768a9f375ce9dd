//! Stories in `testdata`: lines that begin with `>` are commands, the others what came of them. To write the outcome anew run
//! the test with `UPDATE_EXPECT=1`, and read the difference.

use std::path::Path;

/// Plays every story whose file's name begins with `prefix`, and holds what comes of it against what is written.
pub(crate) fn check(prefix: &str, play: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let is_ours = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let entries = folder.read_dir().expect("testdata is there");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = paths.filter(|path| is_ours(path)).collect();
    files.sort();
    assert!(!files.is_empty(), "no story in {}", folder.display());
    for path in files {
        let expected = std::fs::read_to_string(&path).expect("readable");
        let actual = play(&expected);
        if actual == expected {
            continue;
        }
        if is_update() {
            write(&path, &actual);
        } else {
            let line = actual.lines().zip(expected.lines()).position(|(a, e)| a != e);
            panic!("{} differs from line {:?}:\n{actual}", path.display(), line.map(|at| at + 1));
        }
    }
}

/// Whether what a test expects is to be written anew.
#[allow(clippy::disallowed_methods, reason = "a test that rewrites its expectations when asked")]
pub(crate) fn is_update() -> bool {
    std::env::var("UPDATE_EXPECT").is_ok()
}

/// Writes anew what a test expects.
#[allow(clippy::disallowed_methods, reason = "a test that rewrites its expectations when asked")]
pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("writable");
}
