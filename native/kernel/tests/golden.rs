//! The golden vectors, which the Python tests read too, at every SIMD level and however the input is fed.

use graviton_kernel_core::{Algo, Chunker, Ingest, Simd, Spec, cutter_for};
use serde_json::Value;
use std::collections::HashMap;

const VECTORS: &str = include_str!("../../../tests/golden/chunking/vectors.json");

struct Vector {
    spec: Spec,
    text: String,
    input: Value,
    count: usize,
    first: Vec<usize>,
    sha256: String,
}

fn vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.len() > 100);
    vectors
        .iter()
        .map(|vector| Vector {
            spec: Spec::parse(vector["spec"].as_str().unwrap()).unwrap(),
            text: format!("{} of {}", vector["spec"], vector["input"]),
            input: vector["input"].clone(),
            count: vector["count"].as_u64().unwrap() as usize,
            first: vector["first"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect(),
            sha256: vector["sha256"].as_str().unwrap().to_owned(),
        })
        .collect()
}

fn random_bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut data = Vec::with_capacity(size + 8);
    while data.len() < size {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        data.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    data.truncate(size);
    data
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn build(input: &Value) -> Vec<u8> {
    let size = input["bytes"].as_u64().unwrap() as usize;
    let bytes = || hex(input["hex"].as_str().unwrap());
    match input["kind"].as_str().unwrap() {
        "splitmix64" => random_bytes(input["seed"].as_u64().unwrap(), size),
        "repeat" => bytes().into_iter().cycle().take(size).collect(),
        "alphabet" => {
            let letters = bytes();
            let data = random_bytes(input["seed"].as_u64().unwrap(), size);
            data.into_iter().map(|byte| letters[byte as usize % letters.len()]).collect()
        }
        kind => panic!("unknown kind of input {kind}"),
    }
}

fn check(vector: &Vector, lengths: &[usize], how: &str) {
    assert_eq!(lengths[..lengths.len().min(8)], vector.first, "{}, {how}", vector.text);
    assert_eq!(lengths.len(), vector.count, "{}, {how}", vector.text);
    let text: Vec<String> = lengths.iter().map(usize::to_string).collect();
    let digest: String = Algo::Sha256.digest(text.join(",").as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, vector.sha256, "{}, {how}", vector.text);
}

fn levels(spec: &Spec) -> Vec<Simd> {
    if matches!(spec, Spec::W16(_)) { Simd::usable() } else { vec![Simd::Portable] }
}

#[test]
fn cuts_are_those_of_the_vectors() {
    let mut built: HashMap<String, Vec<u8>> = HashMap::new();
    for vector in vectors() {
        let data = built.entry(vector.input.to_string()).or_insert_with(|| build(&vector.input));
        for simd in levels(&vector.spec) {
            let mut chunker = Chunker::new(cutter_for(&vector.spec, simd));
            let mut lengths = chunker.feed(data).unwrap();
            lengths.extend(chunker.finish());
            assert_eq!(lengths.iter().sum::<usize>(), data.len());
            check(&vector, &lengths, simd.name());
        }
    }
}

#[test]
fn feeding_in_pieces_changes_nothing() {
    for vector in vectors() {
        let data = build(&vector.input);
        for piece in [1, 7, 64, 4096, 1 << 20] {
            if data.len() / piece > 210_000 {
                continue; // millions of calls prove no more
            }
            for simd in levels(&vector.spec) {
                let mut chunker = Chunker::new(cutter_for(&vector.spec, simd));
                let mut lengths = Vec::new();
                for part in data.chunks(piece) {
                    lengths.extend(chunker.feed(part).unwrap());
                }
                lengths.extend(chunker.finish());
                check(&vector, &lengths, &format!("{} bytes at a time, {}", piece, simd.name()));
            }
        }
    }
}

#[test]
fn ingest_cuts_and_hashes_each_block_and_the_blob() {
    for vector in vectors() {
        let data = build(&vector.input);
        for (step, block_algo, blob_algo) in
            [(data.len().max(1), Algo::Blake3, Algo::Blake3), (70_001, Algo::Sha256, Algo::Blake3)]
        {
            let mut ingest = Ingest::new(cutter_for(&vector.spec, Simd::best()), block_algo, blob_algo);
            let (mut start, mut end, mut lengths) = (0, 0, Vec::new());
            while end < data.len() || lengths.is_empty() && data.is_empty() {
                end = data.len().min(end + step);
                let blocks = ingest.feed(&data[start..end], end == data.len()).unwrap();
                for (length, digest) in blocks.lengths.iter().zip(blocks.digests) {
                    assert_eq!(digest, block_algo.digest(&data[start..start + length]));
                    start += length;
                }
                lengths.extend(blocks.lengths);
                if data.is_empty() {
                    break;
                }
            }
            assert_eq!(start, data.len());
            check(&vector, &lengths, "ingest");
            assert_eq!(ingest.finish(), Ok((blob_algo.digest(&data), data.len() as u64)));
        }
    }
}

#[test]
fn misuse_is_an_error() {
    let new =
        || Ingest::new(cutter_for(&Spec::parse("fixed-v1:100").unwrap(), Simd::best()), Algo::Blake3, Algo::Blake3);

    let mut ended = new();
    ended.feed(&[], true).unwrap();
    assert!(ended.feed(&[], true).is_err());

    let mut undecided = new();
    assert_eq!(undecided.feed(&[0; 199], false).unwrap().lengths, [100]);
    assert!(undecided.finish().is_err());
    assert!(undecided.feed(&[0; 98], true).is_err());
    assert_eq!(undecided.feed(&[0; 99], true).unwrap().lengths, [99]);
    assert_eq!(undecided.finish().unwrap().1, 199);

    let mut chunker = Chunker::new(cutter_for(&Spec::parse("fixed-v1:100").unwrap(), Simd::best()));
    assert!(chunker.finish().is_empty());
    assert!(chunker.feed(&[0]).is_err());
}
