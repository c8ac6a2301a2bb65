//! A small part of the mutation campaign; the whole of it is the example `mutate_checkpoints`.

mod mutation;

/// Cases of each kind. The campaign runs a million.
const CASES: usize = 20_000;

#[test]
fn a_damaged_file_is_refused_or_read_as_the_safetensors_crate_reads_it() {
    let outcome = mutation::whole_files(1, CASES);
    // Damage that is always or never noticed would prove nothing.
    assert!(outcome.opened > CASES / 10 && outcome.refused > CASES / 2, "{outcome:?}");
}

#[test]
fn a_damaged_index_is_refused_or_agrees_with_its_shards() {
    let cases = CASES / 10;
    let outcome = mutation::sharded(2, cases);
    assert!(outcome.opened > cases / 100 && outcome.refused > cases / 3, "{outcome:?}");
}
