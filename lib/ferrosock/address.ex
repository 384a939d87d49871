defmodule Ferrosock.Address do
  @moduledoc false
  # Where a server listens, and where a peer is: an IP address and a port, or the path of a Unix socket.
  # Most clients of a Unix socket have the path `""`.

  @type host :: :inet.ip_address() | {:local, binary()}
  @type t :: {host(), :inet.port_number()}

  @doc "The address as in a URL: `127.0.0.1:4000`, `[::1]:4000`, `unix:/run/app.sock`."
  @spec format(t()) :: String.t()
  def format({{:local, path}, _port}), do: "unix:#{String.replace(path, <<0>>, "@")}"
  def format({ip, port}) when tuple_size(ip) == 8, do: "[#{:inet.ntoa(ip)}]:#{port}"
  def format({ip, port}), do: "#{:inet.ntoa(ip)}:#{port}"

  @doc "The address that the option `:ip` stands for."
  @spec host(:any | :loopback | host(), inet6 :: boolean()) :: host()
  def host(:any, false), do: {0, 0, 0, 0}
  def host(:any, true), do: {0, 0, 0, 0, 0, 0, 0, 0}
  def host(:loopback, false), do: {127, 0, 0, 1}
  def host(:loopback, true), do: {0, 0, 0, 0, 0, 0, 0, 1}
  def host(host, _inet6), do: host
end
