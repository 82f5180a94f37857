//! A folder in the place of `/`.

use super::Root;

/// Its files; gone with it.
pub(super) struct Tree(tempfile::TempDir);

impl Tree {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(path, content);
        self
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        std::fs::remove_dir_all(self.0.path().join(path.trim_start_matches('/'))).unwrap();
    }

    pub(super) fn root(&self) -> Root {
        Root::new(self.0.path())
    }
}
