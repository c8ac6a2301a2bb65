//! A small part of the mutation campaign; the whole of it is the example `mutate_sounds`.

mod mutation;

/// The campaign runs a hundred thousand.
const CASES: usize = 2_000;

#[test]
fn a_damaged_sound_is_refused_or_read_within_the_limits() {
    // Damage that is always or never noticed would prove nothing, in any of the formats.
    for outcome in mutation::sounds(1, CASES) {
        assert!(outcome.read > CASES / 100 && outcome.refused > CASES / 100, "{outcome:?}");
    }
}
