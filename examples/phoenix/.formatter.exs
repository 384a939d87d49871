[
  inputs: ["{mix,.formatter}.exs", "{config,lib}/**/*.{ex,exs}"],
  # Phoenix's own settings cannot be imported: a toolchain's packages have none.
  locals_without_parens: [
    plug: 1,
    plug: 2,
    socket: 3,
    channel: 2,
    pipe_through: 1,
    get: 3,
    post: 3,
    live: 2,
    attr: 3,
    slot: 2,
    embed_templates: 1
  ]
]
