//! Recovery of a journal over seeded edits and noise, on a stable toolchain.

#[test]
fn recovery_survives_edits_and_noise() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..1500 {
        let len = 1 + random() as usize % 80;
        let bytes: Vec<u8> = (0..len).map(|_| (random() >> 11) as u8).collect();
        fuzz::log_journal(&bytes);
    }
}
