//! Where sessions keep their keys and values, so that a model that goes to sleep can take them back.

use std::sync::{Arc, Weak};

use crate::past::Cache;
use crate::sync::{Mutex, MutexGuard, lock};

/// A session's own cache, or none: a session that computed nothing, or whose model has slept since.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Mutex<Option<Cache>>>);

impl Seat {
    /// The cache. Whoever computes in it holds a lease, so that nobody takes it away meanwhile.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Cache>> {
        lock(&self.0)
    }
}

/// The seats of all sessions of a model.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<Vec<Weak<Mutex<Option<Cache>>>>>);

/// How many seats there are before those of sessions that are gone are looked for.
const MANY: usize = 16;

impl Seats {
    /// A seat with `cache` in it.
    pub(crate) fn take(&self, cache: Option<Cache>) -> Seat {
        let seat = Arc::new(Mutex::new(cache));
        let mut all = lock(&self.0);
        // Only when the list would grow, so that a seat costs the same however many there are.
        if all.len() >= MANY && all.len() == all.capacity() {
            all.retain(|seat| seat.strong_count() > 0);
        }
        all.push(Arc::downgrade(&seat));
        drop(all);
        Seat(seat)
    }

    /// Takes all caches back.
    #[cfg(feature = "power")]
    pub(crate) fn clear(&self) {
        let all: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|seat| drop(lock(seat).take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_of_sessions_that_are_gone_do_not_pile_up() {
        let seats = Seats::default();
        let kept: Vec<Seat> = (0..20).map(|_| seats.take(None)).collect();
        (0..10_000).for_each(|_| drop(seats.take(None)));
        let all = lock(&seats.0);
        assert!(all.len() <= 64, "{}", all.len());
        assert_eq!(all.iter().filter(|seat| seat.strong_count() > 0).count(), kept.len());
    }
}
