# PORT, IP and SCHEME say where the app runs: by default on http://localhost:4000, for this machine alone.
# IP=0.0.0.0 lets others in. SCHEME=https needs the PEM files CERTFILE and KEYFILE.
import Config

port = String.to_integer(System.get_env("PORT", "4000"))
ip = System.get_env("IP", "127.0.0.1")
scheme = System.get_env("SCHEME", "http")

address =
  case :inet.parse_address(String.to_charlist(ip)) do
    {:ok, address} -> [ip: address, port: port]
    {:error, :einval} -> raise "IP is not an address: #{inspect(ip)}"
  end

listener =
  case scheme do
    "http" ->
      [http: address]

    "https" ->
      certificate = [
        certfile: System.fetch_env!("CERTFILE"),
        keyfile: System.fetch_env!("KEYFILE")
      ]

      [https: address ++ certificate]

    other ->
      raise "SCHEME is http or https, not #{inspect(other)}"
  end

# Without a secret from outside, sessions end with the server.
secret = System.get_env("SECRET_KEY_BASE") || Base.encode64(:crypto.strong_rand_bytes(48))

config :lobby,
       LobbyWeb.Endpoint,
       [
         server: true,
         url: [scheme: scheme, host: "localhost", port: port],
         secret_key_base: secret
       ] ++ listener
