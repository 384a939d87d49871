//! How the library is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The VM unloads it when its module is purged, but threads of the engine may still run in it: those for
    // files and timers, and where the VM cannot do so, those that turn the reactors. Other linkers have no
    // such option.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
