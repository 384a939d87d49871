defmodule Ferrosock.ComingFromBanditOrCowboyTest do
  # The page names options of others by hand, and ours with them. Both lists here are what its tables must have.
  use ExUnit.Case, async: true

  alias Ferrosock.Options

  @page "guides/coming-from-bandit-or-cowboy.md"

  # Of Bandit 1.12.5 and Thousand Island 1.5.0, by the heading of the table.
  @bandit %{
    "Bandit" =>
      ~w(plug scheme port ip inet inet6 keyfile certfile otp_app cipher_suite display_plug
      startup_log thousand_island_options http_options http_1_options http_2_options websocket_options),
    "Bandit: `http_options`" => ~w(compress response_encodings deflate_options zstd_options
      log_exceptions_with_status_codes log_protocol_errors log_client_closures),
    "Bandit: `http_1_options`" =>
      ~w(enabled max_request_line_length max_header_length max_header_count
      max_requests clear_process_dict gc_every_n_keepalive_requests log_unknown_messages),
    "Bandit: `http_2_options`" =>
      ~w(enabled max_header_block_size max_requests max_reset_stream_rate
      sendfile_chunk_size default_local_settings),
    "Bandit: `websocket_options`" => ~w(enabled max_frame_size max_fragmented_message_size
      validate_text_frames compress deflate_options max_inflate_ratio primitive_ops_module
      log_protocol_errors),
    "Bandit: `deflate_options`" => ~w(level window_bits mem_level strategy),
    "Bandit: `thousand_island_options`" =>
      ~w(port transport_module transport_options handler_module
      handler_options genserver_options supervisor_options num_acceptors num_listen_sockets
      num_connections max_connections_retry_count max_connections_retry_wait read_timeout
      handshake_timeout shutdown_timeout silent_terminate_on_error)
  }

  # Of Plug.Cowboy 2.7.5, Cowboy 2.18.0 and Ranch 2.2.0.
  @cowboy %{
    "Plug.Cowboy" => ~w(scheme plug options net ip port dispatch ref compress stream_handlers
      protocol_options transport_options timeout otp_app cipher_suite log_exceptions_with_status_code
      conn_in_exception_metadata),
    "Plug.Cowboy.Drainer" => ~w(refs id shutdown check_interval),
    "Plug.Cowboy: `protocol_options`" =>
      ~w(active_n alpn_default_protocol chunked compress_buffering
      compress_threshold connection_type decompress_enabled decompress_ratio_limit dynamic_buffer
      dynamic_buffer_initial_average dynamic_buffer_initial_size env hibernate http10_keepalive
      idle_timeout inactivity_timeout initial_stream_flow_size invalid_response_headers linger_timeout
      logger max_authority_length max_authorization_header_value_length
      max_cookie_header_value_length max_empty_lines max_header_name_length max_header_value_length
      max_headers max_keepalive max_method_length max_request_line_length max_skip_body_length
      metrics_callback metrics_req_filter metrics_resp_headers_filter middlewares protocols
      proxy_header request_timeout reset_idle_timeout_on_send sendfile shutdown_timeout
      stream_handlers tracer_callback tracer_flags tracer_match_specs),
    "Plug.Cowboy: `protocol_options` of HTTP/2" => ~w(connection_window_margin_size
      connection_window_update_threshold enable_connect_protocol goaway_initial_timeout
      goaway_complete_timeout initial_connection_window_size initial_stream_window_size
      max_cancel_stream_rate max_concurrent_streams max_connection_buffer_size
      max_connection_window_size max_decode_table_size max_encode_table_size
      max_fragmented_header_block_size max_frame_size_received max_frame_size_sent
      max_received_frame_rate max_reset_stream_rate max_stream_buffer_size max_stream_window_size
      preface_timeout settings_timeout stream_window_data_threshold stream_window_margin_size
      stream_window_update_threshold),
    "Plug.Cowboy: `transport_options`" => ~w(alarms connection_type handshake_timeout logger
      max_connections num_acceptors num_conns_sups num_listen_sockets post_listen_callback shutdown
      socket_opts)
  }

  # Of Ranch 2.2.0's `ranch_tcp` and `ranch_ssl`, and what Thousand Island's documentation adds.
  @sockets %{
    "Sockets" => ~w(backlog buffer delay_send dontroute exit_on_close fd high_msgq_watermark
      high_watermark inet inet6 ip ifaddr ipv6_v6only keepalive linger low_msgq_watermark
      low_watermark nodelay port priority raw recbuf send_timeout send_timeout_close sndbuf tos
      reuseaddr reuseport reuseport_lb mode active packet inet_backend),
    "TLS" =>
      ~w(alpn_preferred_protocols anti_replay beast_mitigation cacertfile cacerts cert certs_keys
      certfile ciphers client_renegotiation crl_cache crl_check depth dh dhfile eccs
      fail_if_no_peer_cert handshake hibernate_after honor_cipher_order honor_ecc_order key
      key_update_at keyfile log_alert log_level max_handshake_size middlebox_comp_mode
      next_protocols_advertised padding_check partial_chain password protocol psk_identity
      reuse_session reuse_sessions secure_renegotiate session_tickets signature_algs
      signature_algs_cert sni_fun sni_hosts supported_groups user_lookup_fun verify verify_fun
      versions)
  }

  @tables %{
    "" => :server,
    "http_options" => :http,
    "http_options: deflate_options" => :http_deflate,
    "http_options: zstd_options" => :zstd,
    "http_1_options" => :http_1,
    "http_2_options" => :http_2,
    "tls_options" => :tls,
    "websocket_options" => :websocket,
    "websocket_options: deflate_options" => :deflate
  }

  for {heading, options} <- Enum.concat([@bandit, @cowboy, @sockets]) do
    test "the table of #{heading} has all of these options, each once" do
      theirs =
        for {theirs, _ours, _note} <- rows(unquote(heading)), name <- names(theirs), do: name

      assert Enum.sort(theirs) == Enum.sort(unquote(options))
    end
  end

  test "each row says what to use, or why there is nothing" do
    for heading <- headings(), {theirs, ours, note} <- rows(heading) do
      assert (ours == "none" and note != "") or names(ours) != [],
             "#{heading}: #{theirs} has neither"
    end
  end

  test "the options of ours exist" do
    ours = for heading <- headings(), {_theirs, ours, _note} <- rows(heading), do: names(ours)
    # Also in the text, where they have their group.
    named = Regex.scan(~r/`(\w+_options: \w+(?:: \w+)*)`/, page(), capture: :all_but_first)
    assert Enum.uniq(Enum.concat(ours ++ named)) -- known() == []
  end

  test "an upgrade takes the options that WebSockAdapter documents" do
    upgrade = documented(:upgrade)

    for option <- ~w(early_validate_upgrade timeout compress max_frame_size fullsweep_after
                     max_heap_size validate_utf8 active_n deflate_options),
        do: assert(option in upgrade)
  end

  test "the README leads to the page" do
    assert File.read!("README.md") =~ "](#{@page})"
  end

  defp page, do: File.read!(@page)

  defp headings, do: Enum.flat_map([@bandit, @cowboy, @sockets], &Map.keys/1)

  # Of all tables below a heading. Their heads name modules, if anything.
  defp rows(heading) do
    [_before, section] = String.split(page(), "\n### #{heading}\n")
    [section | _rest] = String.split(section, ~r/\n##+ /)

    for row <- String.split(section, "\n"), row =~ ~r/^\| `[a-z]/ do
      [theirs, ours, note] =
        row |> String.trim("|") |> String.split("|") |> Enum.map(&String.trim/1)

      {theirs, ours, note}
    end
  end

  defp names(cell), do: ~r/`([^`]+)`/ |> Regex.scan(cell) |> Enum.map(&List.last/1)

  # With their group in front, as on the page.
  defp known do
    of_tables =
      for {group, table} <- @tables, option <- documented(table) do
        if group == "", do: option, else: "#{group}: #{option}"
      end

    # What the supervisor takes is no option of a table.
    of_tables ++ ["name", "id"]
  end

  defp documented(table) do
    ~r/^  \* `:(\w+)`/m |> Regex.scan(Options.docs(table)) |> Enum.map(&List.last/1)
  end
end
