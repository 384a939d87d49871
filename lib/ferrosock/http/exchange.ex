defmodule Ferrosock.HTTP.Exchange do
  @moduledoc false
  # One request and its response, as an adapter's payload: what `conn.adapter` holds besides the name of
  # the adapter. The engine has the bytes of both; how they are read and sent is not the concern of this struct.

  alias Ferrosock.{Address, Native, Options}
  alias Ferrosock.WebSocket.Upgrade

  defstruct [
    :handle,
    :owner,
    :method,
    :version,
    :peer,
    :accept_encoding,
    :options,
    :upgrade,
    :socket,
    body?: true
  ]

  @type t :: %__MODULE__{
          handle: Native.exchange(),
          # The process that serves the request, and that is told `{:plug_conn, :sent}`.
          owner: pid(),
          method: Plug.Conn.method(),
          version: :"HTTP/1.0" | :"HTTP/1.1" | :"HTTP/2",
          peer: Address.t(),
          # The values of all the request's fields of this name.
          accept_encoding: [binary()],
          options: Options.t(),
          # What the Plug asked for by `Ferrosock.upgrade/4`, and the socket that came of it.
          upgrade: Upgrade.t() | nil,
          socket: Native.socket() | nil,
          # Whether chunks have a body to go to.
          body?: boolean()
        }
end
