//! `docs/doctor.md` has the table that the diagnoses make.

#[test]
fn the_committed_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let fresh = trainyard_diagnose::pages::renew(&page).expect("it has the marks");
    assert!(
        page == fresh,
        "docs/doctor.md is stale; run `cargo xtask generate` and commit the result"
    );
}
