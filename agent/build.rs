//! The binary for boards carries no unwind tables: it aborts on panic, and without symbols they show nothing. They are an
//! eighth of it. `-C force-unwind-tables=no` does not leave them out: the standard library comes with debug information,
//! and once that is in the one optimised whole, every function gets its table.

fn main() {
    println!("cargo:rerun-if-changed=no-unwind-tables.ld");
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    // Only the profile `agent` is this small, and it alone aborts on panic; Cargo tells a build script neither.
    if env("OPT_LEVEL") == "z" && env("CARGO_CFG_TARGET_OS") == "linux" {
        let script = format!("{}/no-unwind-tables.ld", env("CARGO_MANIFEST_DIR"));
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{script}");
    }
}
