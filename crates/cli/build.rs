//! Tells the linker to leave out what a program without unwinding never reads.

fn main() {
    println!("cargo::rerun-if-changed=no-unwinding.ld");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let script = format!("{}/no-unwinding.ld", std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
        for arg in ["--no-eh-frame-hdr", &format!("-T,{script}")] {
            println!("cargo::rustc-link-arg-bins=-Wl,{arg}");
        }
    }
}
