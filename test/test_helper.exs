# What comes comes at once on a machine that does nothing else; what does not come fails a little later.
ExUnit.start(capture_log: true, assert_receive_timeout: 20_000, timeout: 180_000)
