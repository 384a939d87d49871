[
  inputs: ["{mix,.formatter}.exs", "{lib,test,bench}/**/*.{ex,exs}"],
  subdirectories: ["examples/*"],
  # Plug's own settings cannot be imported: a toolchain's packages have none.
  locals_without_parens: [plug: 1, plug: 2, forward: 2, forward: 3]
]
