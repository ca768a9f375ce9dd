//! One fuzz body, chosen by the environment variable `BODY`: under the coverage-guided engine when built with
//! `--cfg fuzzing` (`cargo xtask fuzz`, or `BODY=wire_request cargo fuzz run body -s none`), else a replay of files:
//! `BODY=wire_request cargo run --package foretold-fuzz -- FILE...`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: fuzz::prepare(),
    |data: &[u8]| fuzz::run(fuzz::chosen(), data)
);

#[cfg(not(fuzzing))]
fn main() {
    let body = fuzz::chosen();
    for path in std::env::args_os().skip(1) {
        let data = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        fuzz::run(body, &data);
    }
}
