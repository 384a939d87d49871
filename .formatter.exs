[
  inputs: [
    "{mix,.formatter}.exs",
    "lib/**/*.{ex,exs}",
    "bench/*.exs",
    "bench/phoenix/mix.exs",
    "test/*.exs",
    "test/{boundary,build,http,phoenix_adapter,server,support,websocket,websock_adapter}/**/*.{ex,exs}"
  ],
  subdirectories: ["examples/*", "test/phoenix"],
  # Plug's own settings cannot be imported: a toolchain's packages have none.
  locals_without_parens: [plug: 1, plug: 2, forward: 2, forward: 3, channel: 2, socket: 3]
]
