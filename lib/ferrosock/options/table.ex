defmodule Ferrosock.Options.Table do
  @moduledoc false
  # Every option once: of each its type, with its bounds and its unit, its default and its documentation.
  # One of four parts goes down to the engine, and the fourth is what it is there: a type of Rust's, in the
  # struct that has the options of its table, or else a tuple of that and the type. Whoever adds an option
  # runs `bin/config`, which writes the engine's part of it.

  alias Ferrosock.Options.Type

  @type option ::
          {Type.t() | {:options, keyword()}, default :: term(), doc :: String.t()}
          | {Type.t(), default :: term(), doc :: String.t(), atom() | {config :: atom(), atom()}}

  @http_deflate [
    # Twice as fast as zlib's own default, 6, for a body that is a tenth larger.
    level: {{:range, 1..9}, 4, "1 is fast, 9 is small"},
    window_bits: {{:range, 9..15}, 15, "the window is 2 to this power bytes"},
    mem_level: {{:range, 1..9}, 8, "the memory of a compressor besides its window"},
    strategy:
      {{:one_of, [:default, :filtered, :huffman_only, :rle]}, :default,
       "what `:zlib.deflateInit/6` calls so"}
  ]

  # The names are those of `:zstd.compress/2`. There are higher levels, which keep a scheduler for
  # tens of ms at a time.
  @zstd [
    compressionLevel: {{:range, 1..9}, 3, "1 is fast, 9 is small"}
  ]

  @http [
    compress: {:boolean, true, "whether responses are compressed for the clients that accept it"},
    response_encodings:
      {{:list_of, ["zstd", "gzip", "deflate"]}, ["zstd", "gzip", "deflate"],
       "the content codings, the preferred first. `\"zstd\"` is left out before OTP 28"},
    deflate_options:
      {{:options, @http_deflate}, [], "how `\"gzip\"` and `\"deflate\"` compress, below"},
    zstd_options: {{:options, @zstd}, [], "how `\"zstd\"` compresses, below"}
  ]

  # What holds a request's headers has room for 32,768 (crate http).
  @max_headers 10_000

  @http_1 [
    header_timeout:
      {:ms, 10_000,
       "from a request's first byte, or from accepting or the end of the TLS handshake, to the end of its head",
       :Duration},
    idle_timeout:
      {:ms, 60_000, "that a kept-alive connection may wait for its next request", :Duration},
    max_request_line_length:
      {{:range, 1..16_777_216}, 10_000, "bytes of the request line: method and target", :usize},
    max_header_length:
      {{:range, 1..16_777_216}, 65_536, "bytes of the whole head of a request", :usize},
    max_header_count: {{:range, 1..@max_headers}, 100, "headers of a request", :usize},
    max_requests: {:non_neg_integer, 0, "requests on one connection; 0 is no limit", :u64},
    half_close:
      {:boolean, true,
       "whether a client that has sent a whole request and then closed its side of the connection (FIN, or " <>
         "TLS's close_notify) gets its response (RFC 9112 §9.6). With `false` it counts as gone, and what is " <>
         "sent to it fails at once", :bool},
    max_unread_length:
      {{:range, 0..1_073_741_824}, 1_048_576,
       "bytes of a request's body that its Plug has left unread which are read after the response, for at " <>
         "most 3 seconds, so that the connection can go on (RFC 9112 §9.3); past it the response says " <>
         "`connection: close`", :u64},
    high_water_mark:
      {:pos_integer, 262_144, "bytes of a response queued before its process waits", :usize},
    send_timeout:
      {:ms, 30_000,
       "that what waits for a client may not move, or that `chunk/2` may wait for room, before the " <>
         "connection is reset", :Duration},
    clear_process_dict:
      {:boolean, true,
       "whether a connection's process forgets its dictionary between two requests"}
  ]

  @http_2 [
    enabled:
      {:boolean, true,
       "whether HTTP/2 is spoken: with TLS where the client offers it by ALPN, else where it begins with " <>
         "the preface"},
    max_concurrent_streams:
      {{:range, 1..100_000}, 128,
       "streams of a connection at once, WebSockets among them; one too many is refused with REFUSED_STREAM " <>
         "(RFC 9113 §5.1.2). No more than twice as many have a process, those among them whose client has " <>
         "reset them", :u32},
    max_header_length:
      {{:range, 1..16_777_216}, 65_536,
       "bytes of the header fields of a request, decoded and with 32 more for each (RFC 9113 §6.5.2); " <>
         "one with more is answered with 431", :u32},
    max_header_count:
      {{:range, 1..@max_headers}, 100,
       "header fields of a request, pieces of a `cookie` each; one with more is answered with 431",
       :usize},
    max_requests: {:non_neg_integer, 0, "requests on one connection; 0 is no limit", :u64},
    initial_window_size:
      {{:range, 65_535..2_147_483_647}, 262_144,
       "bytes that a client may send on a stream before its process reads them; on all streams of a " <>
         "connection 8 MiB, or this if it is more", :u32},
    idle_timeout:
      {:ms, 60_000, "that a connection may be open without a stream before it gets a GOAWAY",
       :Duration},
    high_water_mark:
      {:pos_integer, 262_144, "bytes of a response queued before its process waits", :usize},
    send_timeout:
      {:ms, 30_000,
       "that what waits for a client may not move before the connection is reset; for a stream's " <>
         "window, or that `chunk/2` may wait for room, before the stream is", :Duration}
  ]

  @deflate [
    # On JSON level 6 takes three to five times as long, for what is smaller by a tenth (300 bytes) to a third
    # (16 KiB and more).
    level: {{:range, 1..9}, 1, "1 is fast, 9 is small", :u8},
    mem_level: {{:range, 1..9}, 8, "the memory of a compressor besides its window", :u8},
    window_bits:
      {{:range, 9..15}, 15, "the window of a compressor is 2 to this power bytes", :u8},
    client_window_bits:
      {{:range, 9..15}, 12,
       "the same for the clients that let the server choose; a socket keeps so much of what its " <>
         "client sent", :u8},
    server_context_takeover:
      {:boolean, false,
       "whether each socket keeps a compressor from message to message: a better ratio for some 300 kB",
       :bool},
    client_context_takeover:
      {:boolean, true,
       "whether clients may refer to their earlier messages; if not, only offers that renounce it " <>
         "are accepted", :bool},
    threshold: {:non_neg_integer, 128, "messages of fewer bytes are sent as they are", :usize},
    cache:
      {:boolean, true,
       "whether a message that goes to many WebSockets is compressed once: each scheduler keeps what it has " <>
         "compressed of late, up to 64 KiB. Not for sockets that keep a compressor", :bool}
  ]

  @websocket [
    timeout: {:timeout, 60_000, "without a byte from the client", :Duration},
    compress:
      {:boolean, true,
       "whether permessage-deflate may be negotiated where an upgrade asks for it"},
    deflate_options: {{:options, @deflate}, [], "how it compresses, below"},
    max_frame_size: {:limit, 8_000_000, "bytes of one frame and of a joined message", :u64},
    max_fragments: {:pos_integer, 131_072, "fragments of one message", :u32},
    validate_utf8: {:boolean, true, "whether text and close reasons must be UTF-8", :bool},
    ping_interval:
      {:timeout, :infinity, "without a byte from the client before the server sends a ping",
       :Duration},
    ping_timeout:
      {:ms, 20_000,
       "without a byte from the client after such a ping before it ends as a `:timeout`",
       :Duration},
    max_lifetime:
      {:timeout, :infinity, "that a WebSocket may be open before it is closed with 1012",
       :Duration},
    close_timeout:
      {:ms, 5_000, "to wait for the client's part of the closing handshake", :Duration},
    send_timeout:
      {:ms, 15_000,
       "that what waits for a client may not move, whoever it is from, and that a slow client may " <>
         "keep the queue over `high_water_mark`, before it is closed with 1013", :Duration},
    high_water_mark:
      {:pos_integer, 1_048_576, "bytes queued to a client before its process waits", :usize},
    early_validate_upgrade:
      {:boolean, true,
       "whether `upgrade/4` itself raises on a request that is no valid handshake"},
    flat_serializer:
      {:boolean, true,
       "whether a `Phoenix.Socket` whose serializer is one of Phoenix's own gets one that makes the same messages " <>
         "as a single binary each: all receivers of a broadcast share it, where each would be sent a copy of its " <>
         "parts. Serializers of the app stay as they are"}
  ]

  @tls [
    certs_keys:
      {:identities, [],
       "certificates besides that of `:certfile` or `:cert`, each with the same options; a client gets " <>
         "the first that it can use"},
    sni_hosts:
      {:hosts, [],
       "certificates for the host names that clients ask for (RFC 6066), `*.example.com` for all names " <>
         "of one level"},
    versions:
      {{:list_of, [:"tlsv1.3", :"tlsv1.2"]}, [:"tlsv1.3", :"tlsv1.2"], "versions of the protocol"},
    verify:
      {{:one_of, [:verify_none, :verify_peer]}, :verify_none,
       "whether clients are asked for a certificate"},
    fail_if_no_peer_cert:
      {:boolean, false, "whether clients without a certificate are refused, with `:verify_peer`"},
    cacertfile: {:file, nil, "PEM with the authorities of the clients' certificates"},
    cacerts: {:ders, nil, "the same as a list of DERs"},
    reload_interval:
      {:timeout, :infinity,
       "between two looks at the files: changed ones are loaded, see `reload_certificates/1`"}
  ]

  @server [
    plug:
      {:plug, nil,
       "what serves requests; required unless `:sock` is given. A module's `init/1` runs once, at " <>
         "the start"},
    sock:
      {:sock, nil,
       "what serves every request as a WebSocket, in place of a Plug; see `sock/3`. Its `init/1` " <>
         "runs once, at the start"},
    scheme: {{:one_of, [:http, :https]}, :http, "the protocol"},
    certfile:
      {:file, nil, "PEM with the server's certificate and those between it and its authority"},
    keyfile: {:file, nil, "PEM with its key, if that is not in `:certfile`"},
    cert: {:cert, nil, "the same as `:certfile`, as a term"},
    key: {:key, nil, "the same as `:keyfile`, as a term"},
    password: {:password, nil, "of an encrypted key"},
    otp_app: {:app, nil, "the application whose folder relative paths of files are in"},
    cipher_suite:
      {{:one_of, [nil, :strong, :compatible]}, nil,
       "accepted for the sake of Plug.SSL's options and ignored: there are only strong ones"},
    tls_options: {{:options, @tls}, [], "TLS, below"},
    port: {{:range, 0..65_535}, 4000, "0 takes a free one; see `info/1`"},
    ip:
      {:ip, :any,
       "the address to listen on. That of a Unix socket has no `:port`; its file is removed when the " <>
         "server stops, and replaced if nobody listens on it any more"},
    inet6:
      {:boolean, false,
       "whether `:any` and `:loopback` are those of IPv6; with `:any` IPv4 is served, too"},
    startup_log: {:log_level, :info, "the level of the line that says where the server runs"},
    display_plug: {:any, nil, "what that line names instead of `:plug`"},
    num_acceptors:
      {{:count, 1_024}, :default, "processes that start connections; one per scheduler"},
    reactors:
      {{:count, 256}, :default,
       "processes that run the engine's part of the connections; all servers of a node share them, " <>
         "and the first decides; one per two cores"},
    reuse_port:
      {:boolean, false,
       "whether several servers, of this node or of others, may listen on the same port: the kernel " <>
         "spreads the connections (SO_REUSEPORT)", :bool},
    nodelay: {:boolean, true, "whether small packets are sent at once (TCP_NODELAY)", :bool},
    max_connections:
      {:limit, :infinity,
       "connections at once, WebSockets and those that linger among them; one of HTTP/2 counts once, whatever " <>
         "its streams", :usize},
    overload:
      {{:one_of, [:wait, :refuse]}, :wait,
       "whether a connection too many waits in the kernel's `:backlog`, or is answered with 503 (with TLS: " <>
         "closed)", :Overload},
    max_queued_bytes:
      {:limit, 1_073_741_824,
       "bytes that may wait for all clients together; as long as there are more, whoever sends to a client " <>
         "for which something waits is told to wait, whatever its `high_water_mark`", :usize},
    proxy_protocol:
      {:boolean, false,
       "whether connections begin with a header of the PROXY protocol, version 1 or 2, that tells the " <>
         "client's address; only for a server that nobody but the proxy can reach", :bool},
    handshake_timeout:
      {:ms, 5_000,
       "from accepting to the end of that header and of the TLS handshake; the preface of HTTP/2 has as " <>
         "long again", :Duration},
    # listen(2) takes an int.
    backlog:
      {{:range, 1..2_147_483_647}, 1024,
       "connections that the kernel keeps until they are accepted", :i32},
    shutdown_timeout: {:ms, 15_000, "that open connections have to end when the server stops"},
    shutdown_code:
      {:close_code, 1001,
       "what WebSockets are closed with when the server stops; 1012 says that it is about to restart"},
    hibernate_after:
      {:timeout, 15_000, "after which the process of an idle connection hibernates",
       {:socket, :Duration}},
    http_options: {{:options, @http}, [], "how responses are compressed, below"},
    http_1_options: {{:options, @http_1}, [], "HTTP/1 limits, below"},
    http_2_options: {{:options, @http_2}, [], "HTTP/2 limits, below"},
    websocket_options: {{:options, @websocket}, [], "WebSocket limits and defaults, below"}
  ]

  @upgrade [
    timeout: {:timeout, "the server's", "without a byte from the client; pings count"},
    compress: {:boolean, false, "accept permessage-deflate when the client offers it"},
    max_frame_size:
      {:limit, "the server's",
       "bytes of one frame and of a joined message; never more than the server's"},
    fullsweep_after: {{:range, 0..65_535}, "the VM's", "the process flag"},
    max_heap_size: {:heap_size, "the VM's", "the process flag"},
    validate_utf8: {:boolean, "the server's", "whether text and close reasons must be UTF-8"},
    deflate_options:
      {{:options, @deflate}, "the server's",
       "those of `:deflate_options` that differ from the server's"},
    early_validate_upgrade:
      {:boolean, "the server's",
       "`false` leaves the check of the request until the Plug has returned"},
    active_n: {:any, nil, "accepted for the sake of other servers and ignored"}
  ]

  @drain [
    rate:
      {:pos_integer, 1_000,
       "WebSockets that are told to close per second; more where it would take more than half of " <>
         "the `:deadline`"},
    code: {:close_code, "the server's `:shutdown_code`", "what they are told"},
    deadline: {:ms, "the server's `:shutdown_timeout`", "that connections have to end"}
  ]

  @doc "All tables, each with its options in the order in which people read of them."
  @spec all() :: %{atom() => [{name :: atom(), option()}]}
  def all do
    %{
      server: @server,
      http: @http,
      http_deflate: @http_deflate,
      zstd: @zstd,
      http_1: @http_1,
      http_2: @http_2,
      tls: @tls,
      websocket: @websocket,
      deflate: @deflate,
      upgrade: @upgrade,
      drain: @drain
    }
  end
end
