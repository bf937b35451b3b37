//! A reader that goes away, as `head` does, ends a command without a word.

use std::process::Command;

#[test]
fn a_closed_pipe_is_no_panic() {
    for arguments in [&["engine", "list", "--json"][..], &["engine", "list"], &["status", "--json"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_trainyard"))
            .args(arguments)
            .current_dir(folder.path())
            .stdout(writer)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        // A command that had nothing to print ends as it likes.
        assert!(matches!(output.status.code(), Some(0..=2)), "{arguments:?}: {output:?}");
    }
}
