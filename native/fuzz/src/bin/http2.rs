#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferrosock_fuzz::http2::check(data));
