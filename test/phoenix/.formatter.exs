[
  inputs: ["{mix,.formatter}.exs", "{config,lib,test}/**/*.{ex,exs}"],
  # Phoenix's own settings cannot be imported: a toolchain's packages have none.
  locals_without_parens: [
    plug: 1,
    plug: 2,
    forward: 2,
    forward: 3,
    socket: 2,
    socket: 3,
    channel: 2,
    channel: 3,
    intercept: 1,
    pipe_through: 1,
    get: 3,
    post: 3,
    live: 2,
    live: 3,
    attr: 2,
    attr: 3,
    slot: 1
  ]
]
