//! The gate in front of a model's weights, in many interleavings: nothing is lost, nothing is opened twice at a time, and
//! nothing is closed while somebody holds it.
#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use gate::{Doing, Gate, Lease};

#[path = "../src/gate.rs"]
mod gate;

/// The locks of a scheduler that tries interleavings.
mod sync {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn wait<'a, T>(called: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        called.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What the world knows of the weights that there are.
#[derive(Debug, Default)]
struct World {
    alive: AtomicUsize,
    moving: AtomicUsize,
    opened: AtomicUsize,
}

/// Weights that count themselves.
#[derive(Debug)]
struct Weights(Arc<World>);

impl Weights {
    fn open(world: &Arc<World>) -> Self {
        assert_eq!(world.alive.fetch_add(1, SeqCst), 0, "opened twice");
        world.opened.fetch_add(1, SeqCst);
        Self(world.clone())
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        assert_eq!(self.0.alive.fetch_sub(1, SeqCst), 1);
    }
}

/// Others run here.
fn others() {
    shuttle::thread::yield_now();
}

/// Opens, which takes a while and may fail.
fn open(world: &Arc<World>, fails: bool) -> Result<Weights, &'static str> {
    assert_eq!(world.moving.fetch_add(1, SeqCst), 0, "two at a time");
    others();
    world.moving.fetch_sub(1, SeqCst);
    if fails { Err("gone") } else { Ok(Weights::open(world)) }
}

fn in_use(lease: &Lease<Weights>, world: &World) {
    assert_eq!((world.alive.load(SeqCst), lease.0.alive.load(SeqCst)), (1, 1), "closed under a lease");
}

/// One that asks and may sleep between, as its random numbers have it. → turns that it had.
fn client(gate: &Arc<Gate<Weights>>, world: &Arc<World>, mut random: fastrand::Rng) -> usize {
    let mut turns = 0;
    for _ in 0..4 {
        match random.u8(0..8) {
            0..=3 => {
                let fails = random.u8(0..4) == 0;
                match gate.lease(|| open(world, fails)) {
                    Ok(lease) => {
                        in_use(&lease, world);
                        others();
                        in_use(&lease, world);
                    }
                    Err(why) => assert!(fails && why == "gone"),
                }
            }
            4 | 5 => {
                let fails = random.u8(0..4) == 0;
                let slept = gate.sleep(|weights| {
                    assert_eq!(world.moving.fetch_add(1, SeqCst), 0, "two at a time");
                    others();
                    assert_eq!(weights.0.alive.load(SeqCst), 1);
                    world.moving.fetch_sub(1, SeqCst);
                    if fails { Err("no room on the disk") } else { Ok(()) }
                });
                assert!(slept.is_ok() || fails);
            }
            6 => {
                if let Some(lease) = gate.held() {
                    others();
                    in_use(&lease, world);
                }
            }
            _ => gate.settled(|weights| {
                assert_eq!(weights.map_or(0, |weights| weights.0.alive.load(SeqCst)), world.alive.load(SeqCst));
            }),
        }
        gate.look(|weights| weights.inspect(|weights| assert_eq!(weights.0.alive.load(SeqCst), 1)).is_some());
        others();
        turns += 1;
    }
    turns
}

#[test]
fn a_thousand_interleavings_lose_nothing_and_close_nothing_that_is_held() {
    let count = || {
        let world = Arc::new(World::default());
        let gate = Gate::new(Weights::open(&world));
        let seed = shuttle::rand::Rng::r#gen::<u64>(&mut shuttle::rand::thread_rng());
        let clients = (0..4).map(|i| {
            let (gate, world) = (gate.clone(), world.clone());
            shuttle::thread::spawn(move || client(&gate, &world, fastrand::Rng::with_seed(seed.wrapping_add(i))))
        });
        clients.collect::<Vec<_>>().into_iter().for_each(|client| assert_eq!(client.join().unwrap(), 4));
        // Nobody is left, so that it sleeps at once, and whoever comes now is served.
        assert_eq!(gate.sleep(|_| Ok::<_, ()>(())), Ok(true));
        assert_eq!((gate.doing(), world.alive.load(SeqCst)), (Doing::Asleep, 0));
        in_use(&gate.lease(|| open(&world, false)).unwrap(), &world);
        assert!(matches!(gate.doing(), Doing::Idle(_)));
    };
    shuttle::check_random_with_seed(count, 11, 1_000);
}

#[test]
fn many_who_wake_at_once_open_once() {
    let wake = || {
        let world = Arc::new(World::default());
        let gate = Gate::new(Weights::open(&world));
        assert_eq!(gate.sleep(|_| Ok::<_, ()>(())), Ok(true));
        let clients = (0..4).map(|_| {
            let (gate, world) = (gate.clone(), world.clone());
            // Each keeps its lease, so that there is no reason to open a second time.
            shuttle::thread::spawn(move || gate.lease(|| open(&world, false)).unwrap())
        });
        let leases: Vec<_> = clients.collect::<Vec<_>>().into_iter().map(|client| client.join().unwrap()).collect();
        assert_eq!(world.opened.load(SeqCst), 2);
        assert_eq!(gate.sleep(|_| Ok::<_, ()>(())), Ok(false), "in use");
        drop(leases);
        assert_eq!(gate.sleep(|_| Ok::<_, ()>(())), Ok(true));
    };
    shuttle::check_random_with_seed(wake, 11, 200);
}

/// Runs what panics, and swallows that.
fn panics(what: impl FnOnce()) {
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).is_err());
}

#[test]
fn a_panic_leads_back_to_where_it_began() {
    let broken = || {
        let world = Arc::new(World::default());
        let gate = Gate::new(Weights::open(&world));
        panics(|| {
            let lease = gate.lease(|| open(&world, false)).unwrap();
            in_use(&lease, &world);
            std::panic::resume_unwind(Box::new("a lease holder"));
        });
        panics(|| assert!(gate.sleep::<()>(|_| std::panic::resume_unwind(Box::new("closing"))).is_ok()));
        assert!(matches!(gate.doing(), Doing::Idle(_)), "still open");
        assert_eq!(gate.sleep(|_| Ok::<_, ()>(())), Ok(true));
        panics(|| drop(gate.lease::<()>(|| std::panic::resume_unwind(Box::new("opening")))));
        assert_eq!(gate.doing(), Doing::Asleep);
        in_use(&gate.lease(|| open(&world, false)).unwrap(), &world);
    };
    shuttle::check_random_with_seed(broken, 1, 1);
}
