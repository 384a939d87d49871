[
  inputs: ["{mix,.formatter}.exs", "lib/**/*.ex"],
  locals_without_parens: [plug: 1, plug: 2, forward: 2, forward: 3]
]
