//! Snapshots: what was saved comes back bit for bit, and whatever is not that is refused.

use std::path::Path;

use autoglm_core::{KvCache, KvFormat, Run, TokenId, Unit, Workers, cache::Step, rows::from_rows};
use autoglm_kvcache::{Error, Identity, Pool, PooledCache, Seal, Shape, SnapshotError};

const LIMIT: usize = 4096;

fn identity() -> Identity {
    Identity { salt: [1; 32], weights: [2; 32], precision: "int8".into(), config: "theta 10000".into() }
}

fn pool(format: KvFormat) -> Pool {
    Pool::new(Shape::new(2, 2, 8, format).expect("a shape"), 1 << 22).expect("a budget")
}

/// Puts `rows` rows behind those of the cache. → bits of their answers.
fn compute(cache: &mut PooledCache, rows: usize) -> Vec<u32> {
    let workers = Workers::new(1).expect("a thread");
    let from = cache.rows();
    let mut bits = Vec::new();
    for layer in 0..2 {
        let tensor = |heads: usize, what: usize| {
            let number = |i: usize| ((from * heads * 8 + i) * 7919 + what * 104_729 + layer) % 1009;
            from_rows((0..rows * heads * 8).map(|i| number(i) as f32 / 252.0 - 2.0).collect(), &[rows, heads, 8])
        };
        let (q, k, v) = (tensor(4, 1).expect("q"), tensor(2, 2).expect("k"), tensor(2, 3).expect("v"));
        let answer = cache.attend(&Run::new(&workers), layer, Step { q: &q, k: &k, v: &v, scale: 0.3 });
        let answer: Vec<f32> = answer.and_then(|a| Ok(a.flatten_all()?.to_vec1()?)).expect("an answer");
        bits.extend(answer.iter().map(|x| x.to_bits()));
    }
    bits
}

fn units(count: usize) -> Vec<Unit> {
    (0..count).map(|i| Unit::Token(TokenId(i as u32 * 31))).collect()
}

/// Saves a prefix of 75 rows of a sequence of 80.
fn save(pool: &Pool, path: &Path, seal: Option<&Seal>) -> PooledCache {
    let root = identity().root(pool.shape());
    let (mut cache, _) = pool.open(root, &units(80), 0, LIMIT);
    compute(&mut cache, 80);
    cache.save(&units(75), &identity(), path, seal).expect("a folder to write to");
    cache
}

fn load(pool: &Pool, path: &Path, identity: &Identity, seal: Option<&Seal>) -> Result<PooledCache, SnapshotError> {
    let root = identity.root(pool.shape());
    match pool.load(identity, root, LIMIT, path, seal) {
        Ok((cache, loaded)) => {
            assert_eq!((loaded, cache.rows()), (units(75), 75));
            Ok(cache)
        }
        Err(Error::Snapshot { path: named, source }) => {
            assert_eq!(named, path);
            assert_eq!((pool.stats().used, pool.stats().nodes), (0, 0), "nothing of it is in the pool");
            Err(source)
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_was_saved_goes_on_bit_for_bit_and_is_found_by_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("system");
    for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
        for seal in [None, Some(Seal::new(&[5; 32]))] {
            let mut before = save(&pool(format), &path, seal.as_ref());
            let after = pool(format);
            let mut loaded = load(&after, &path, &identity(), seal.as_ref()).expect("what was saved");
            before.truncate(75).expect("rows");
            assert_eq!(compute(&mut loaded, 40), compute(&mut before, 40));
            let (_, known) = after.open(identity().root(after.shape()), &units(100), 99, LIMIT);
            assert_eq!(known, 75);
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(left.len(), 1, "no unfinished file is left: {left:?}");
}

#[test]
fn nothing_behind_the_prefix_is_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let [with, without] = ["with", "without"].map(|name| folder.path().join(name));
    for format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Int8] {
        let pool = pool(format);
        let root = identity().root(pool.shape());
        for (path, tail) in [(&with, 5), (&without, 0)] {
            let (mut cache, _) = pool.open(root, &[], 0, LIMIT);
            compute(&mut cache, 75);
            compute(&mut cache, tail);
            cache.save(&units(75), &identity(), path, None).expect("a folder to write to");
        }
        assert!(std::fs::read(&with).expect("a file") == std::fs::read(&without).expect("a file"), "{format:?}");
    }
}

#[test]
fn units_that_are_made_up_are_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("system");
    let pool = pool(KvFormat::Bf16);
    let (mut cache, _) = pool.open(identity().root(pool.shape()), &[], 0, LIMIT);
    compute(&mut cache, 75);
    let sized = |tokens, width| Unit::Media {
        digest: autoglm_core::MediaDigest([9; 32]),
        modality: autoglm_core::Modality::Image,
        tokens,
        extent: [1, 2, width],
        keep: autoglm_core::Keep::ALL,
    };
    // Positions beyond 32 bits, first.
    cache.save(&[sized(70, u32::MAX), sized(5, 1)], &identity(), &path, None).expect("a folder to write to");
    let other = self::pool(KvFormat::Bf16);
    assert!(matches!(load(&other, &path, &identity(), None), Err(SnapshotError::Damaged)));
    let media = |tokens| sized(tokens, 3);
    cache.save(&[media(70), media(5)], &identity(), &path, None).expect("a folder to write to");
    let mut bytes = std::fs::read(&path).expect("the file");
    // The rows of both media: what they say is changed, and the digest with it.
    let rows = |tokens: usize| [&[1u8][..], &(tokens as u64).to_le_bytes()].concat();
    for tokens in [70, 5] {
        let at = bytes.windows(9).position(|window| window == rows(tokens)).expect("the medium");
        bytes[at..at + 9].copy_from_slice(&rows(usize::MAX));
    }
    let end = bytes.len() - 32;
    let digest = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(digest.as_bytes());
    std::fs::write(&path, bytes).expect("a folder to write to");
    drop(cache);
    assert!(matches!(load(&pool, &path, &identity(), None), Err(SnapshotError::Damaged)));
}

#[test]
fn every_cut_and_every_flipped_byte_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("system");
    for seal in [None, Some(Seal::new(&[5; 32]))] {
        save(&pool(KvFormat::Bf16), &path, seal.as_ref());
        let whole = std::fs::read(&path).expect("the file");
        let broken = folder.path().join("broken");
        let refused = |bytes: &[u8]| {
            std::fs::write(&broken, bytes).expect("a folder to write to");
            load(&pool(KvFormat::Bf16), &broken, &identity(), seal.as_ref()).err()
        };
        // All of the header and the units, and a sample of the rest, which is all alike.
        let places = (0..1200).chain((1200..whole.len()).step_by(997)).chain(whole.len() - 40..whole.len());
        for at in places {
            assert!(refused(&whole[..at]).is_some(), "cut at {at}");
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert!(refused(&flipped).is_some(), "flipped at {at}");
        }
        assert!(matches!(refused(&[&whole[..], &[0]].concat()), Some(SnapshotError::Size { .. })));
        let mut newer = whole.clone();
        newer[8] = 2;
        assert!(matches!(refused(&newer), Some(SnapshotError::Version { got: 2, known: 1 })));
        assert!(matches!(refused(b"PK\x03\x04 some archive, not keys"), Some(SnapshotError::Magic)));
        assert!(refused(&whole).is_none());
    }
}

#[test]
fn sizes_that_a_header_makes_up_take_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("system");
    save(&pool(KvFormat::Bf16), &path, None);
    let whole = std::fs::read(&path).expect("the file");
    let len = u32::from_le_bytes([whole[12], whole[13], whole[14], whole[15]]) as usize;
    let header = String::from_utf8(whole[16..16 + len].to_vec()).expect("JSON");
    for (field, number) in [
        ("\"rows\":75", "\"rows\":18446744073709551615"),
        ("\"rows\":75", "\"rows\":4096"),
        ("\"rows\":75", "\"rows\":0"),
        ("\"units_bytes\":375", "\"units_bytes\":18446744073709551615"),
        ("\"units_bytes\":375", "\"units_bytes\":60000000"),
        ("\"layers\":2", "\"layers\":99999999999"),
    ] {
        let forged = header.replace(field, number);
        assert_ne!(forged, header);
        let mut bytes = whole[..12].to_vec();
        bytes.extend_from_slice(&(forged.len() as u32).to_le_bytes());
        bytes.extend_from_slice(forged.as_bytes());
        bytes.extend_from_slice(&whole[16 + len..]);
        std::fs::write(&path, bytes).expect("a folder to write to");
        assert!(load(&pool(KvFormat::Bf16), &path, &identity(), None).is_err(), "{number}");
    }
    let mut endless = whole[..12].to_vec();
    endless.extend_from_slice(&u32::MAX.to_le_bytes());
    std::fs::write(&path, endless).expect("a folder to write to");
    assert!(matches!(load(&pool(KvFormat::Bf16), &path, &identity(), None), Err(SnapshotError::Damaged)));
}

#[test]
fn what_was_computed_from_something_else_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("system");
    save(&pool(KvFormat::Bf16), &path, None);
    let other = [
        ("tenant", Identity { salt: [9; 32], ..identity() }),
        ("checkpoint", Identity { weights: [9; 32], ..identity() }),
        ("precision", Identity { precision: "int4".into(), ..identity() }),
        ("configuration", Identity { config: "theta 500000".into(), ..identity() }),
    ];
    for (name, identity) in other {
        let refused = load(&pool(KvFormat::Bf16), &path, &identity, None);
        assert!(matches!(refused, Err(SnapshotError::Mismatch { what, .. }) if what == name), "{name}");
    }
    let refused = load(&pool(KvFormat::F32), &path, &identity(), None);
    assert!(matches!(refused, Err(SnapshotError::Mismatch { what: "format of keys and values", .. })));
    let narrow = Pool::new(Shape::new(2, 1, 8, KvFormat::Bf16).expect("a shape"), 1 << 22).expect("a budget");
    let refused = load(&narrow, &path, &identity(), None);
    assert!(matches!(refused, Err(SnapshotError::Mismatch { what: "number of key heads", .. })));
    let missing = load(&pool(KvFormat::Bf16), &folder.path().join("nowhere"), &identity(), None);
    assert!(matches!(missing, Err(SnapshotError::Read(_))));
    // More rows than the sequence may have.
    let pool = pool(KvFormat::Bf16);
    let short = pool.load(&identity(), identity().root(pool.shape()), 74, &path, None);
    assert!(matches!(short, Err(Error::Snapshot { source: SnapshotError::Damaged, .. })));
}

#[test]
fn a_seal_opens_with_its_key_alone_and_hides_the_prompt() {
    let folder = tempfile::tempdir().expect("a folder");
    let (sealed, open) = (folder.path().join("sealed"), folder.path().join("open"));
    let (key, other) = (Seal::new(&[5; 32]), Seal::new(&[6; 32]));
    save(&pool(KvFormat::Bf16), &sealed, Some(&key));
    save(&pool(KvFormat::Bf16), &open, None);
    let try_with = |path: &Path, seal: Option<&Seal>| load(&pool(KvFormat::Bf16), path, &identity(), seal).err();
    assert!(matches!(try_with(&sealed, Some(&other)), Some(SnapshotError::Damaged)));
    assert!(matches!(try_with(&sealed, None), Some(SnapshotError::Sealed)));
    assert!(matches!(try_with(&open, Some(&key)), Some(SnapshotError::NotSealed)));
    assert!(try_with(&sealed, Some(&key)).is_none());
    let holds = |path: &Path| {
        let bytes = std::fs::read(path).expect("the file");
        let mut units_bytes = Vec::new();
        units(75)[10..20].iter().for_each(|unit| {
            let Unit::Token(id) = unit else { return };
            units_bytes.push(0);
            units_bytes.extend_from_slice(&id.0.to_le_bytes());
        });
        bytes.windows(units_bytes.len()).any(|window| window == units_bytes)
    };
    assert!(holds(&open) && !holds(&sealed));
    let again = std::fs::read(&sealed).expect("the file");
    save(&pool(KvFormat::Bf16), &sealed, Some(&key));
    assert_ne!(again, std::fs::read(&sealed).expect("the file"), "no nonce is used twice");
}

#[test]
fn a_pool_without_room_says_so_and_what_is_in_it_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("system");
    save(&pool(KvFormat::Bf16), &path, None);
    let shape = *pool(KvFormat::Bf16).shape();
    let small = Pool::new(shape, 2 * shape.block_bytes(1)).expect("a budget");
    let refused = small.load(&identity(), identity().root(&shape), LIMIT, &path, None);
    assert!(matches!(refused, Err(Error::Core(autoglm_core::Error::CacheFull { .. }))));
    assert_eq!(small.stats().used, 0);
}
