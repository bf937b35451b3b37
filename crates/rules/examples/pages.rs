//! Writes the rules' pages into a folder: `cargo run -p trainyard-rules --example pages -- FOLDER`.
//! `cargo xtask generate` does the same for `docs/rules`.

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).expect("a folder");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in trainyard_rules::pages::pages() {
        std::fs::write(std::path::Path::new(&folder).join(name), text)?;
    }
    Ok(())
}
