defmodule Chat.Application do
  @moduledoc """
  The chat: one room and one Ferrosock server.

  `PORT` (4000) and `IP` (127.0.0.1) come from the environment. The address is only this machine's
  unless `IP` says otherwise: `IP=0.0.0.0` lets others in.
  """

  use Application

  # For /echo alone, which passes on what its client asks for, up to here; /chat asks for less.
  @max_frame_size 64 * 1024 * 1024

  @impl true
  def start(_type, _args) do
    port = String.to_integer(System.get_env("PORT", "4000"))
    ip = ip!(System.get_env("IP", "127.0.0.1"))

    children = [
      Chat.Room,
      {Ferrosock,
       plug: Chat.Router, ip: ip, port: port, websocket_options: [max_frame_size: @max_frame_size]}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Chat.Supervisor)
  end

  defp ip!(text) do
    case :inet.parse_address(String.to_charlist(text)) do
      {:ok, ip} -> ip
      {:error, :einval} -> raise ArgumentError, "IP is not an address: #{inspect(text)}"
    end
  end
end
