//! The engine against this machine's real Docker. Needs the `pith-demo` images (tests/setup/images.sh) and, for pulls,
//! Debian's docker-registry. Everything made carries the label of a node of its own and goes when the test ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod engine {
    mod access;
    mod damage;
    mod images;
    mod lifecycle;
    mod load;
    mod stage;
    mod watching;
}
