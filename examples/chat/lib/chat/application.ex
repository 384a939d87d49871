defmodule Chat.Application do
  @moduledoc """
  The chat: one room and one Ferrosock server.

  `PORT` (4000), `IP` (127.0.0.1) and `SCHEME` (http) come from the environment. The address is only
  this machine's unless `IP` says otherwise: `IP=0.0.0.0` lets others in. `SCHEME=https` needs the PEM
  files `CERTFILE` and `KEYFILE`.
  """

  use Application

  # For /echo alone, which passes on what its client asks for, up to here; /chat asks for less.
  @max_frame_size 64 * 1024 * 1024

  @impl true
  def start(_type, _args) do
    port = String.to_integer(System.get_env("PORT", "4000"))
    ip = ip!(System.get_env("IP", "127.0.0.1"))

    options =
      [plug: Chat.Router, ip: ip, port: port] ++
        [websocket_options: [max_frame_size: @max_frame_size]] ++
        tls!(System.get_env("SCHEME", "http"))

    children = [Chat.Room, {Ferrosock, options}]

    Supervisor.start_link(children, strategy: :one_for_one, name: Chat.Supervisor)
  end

  defp tls!("http"), do: []

  defp tls!("https") do
    [
      scheme: :https,
      certfile: System.fetch_env!("CERTFILE"),
      keyfile: System.fetch_env!("KEYFILE")
    ]
  end

  defp tls!(other), do: raise(ArgumentError, "SCHEME is http or https, not #{inspect(other)}")

  defp ip!(text) do
    case :inet.parse_address(String.to_charlist(text)) do
      {:ok, ip} -> ip
      {:error, :einval} -> raise ArgumentError, "IP is not an address: #{inspect(text)}"
    end
  end
end
