# What comes comes at once on a machine that does nothing else; what does not come fails a little later. Most tests
# wait for most of their time, so that there may be more of them at a time than schedulers take.
ExUnit.start(
  capture_log: true,
  assert_receive_timeout: 20_000,
  timeout: 180_000,
  max_cases: max(8, 2 * System.schedulers_online())
)
