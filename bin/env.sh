# To be sourced, by bash: puts an Elixir that can build the project on PATH, and says in FERROSOCK_DEPS
# where its packages come from (see lib/mix/packages.exs). Elixir 1.15 or later with Hex is used where
# it is installed, and else bin/toolchain; FERROSOCK_DEPS=hex or =toolchain decides beforehand.

elixir_with_hex() {
  command -v mix >/dev/null &&
    elixir -e 'Version.match?(System.version(), "~> 1.15") || System.halt(1)' &&
    (cd / && mix help hex.info) >/dev/null 2>&1
}

# Fetches what mix.exs in the current directory asks for.
fetch_packages() {
  [ "$FERROSOCK_DEPS" = toolchain ] || mix deps.get
}

# File names are UTF-8 whatever the locale, of which a bare machine has none.
export ELIXIR_ERL_OPTIONS="+fnu ${ELIXIR_ERL_OPTIONS-}"

if [ -z "${FERROSOCK_DEPS-}" ]; then
  if elixir_with_hex; then FERROSOCK_DEPS=hex; else FERROSOCK_DEPS=toolchain; fi
fi
export FERROSOCK_DEPS

if [ "$FERROSOCK_DEPS" = toolchain ]; then
  toolchain=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.toolchain
  "$(dirname "$toolchain")/bin/toolchain" "$toolchain" || return
  PATH=$toolchain/bin:$PATH
fi
