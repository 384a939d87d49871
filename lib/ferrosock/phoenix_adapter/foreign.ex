defmodule Ferrosock.PhoenixAdapter.Foreign do
  @moduledoc false
  # The options of Bandit 1.12 and Plug.Cowboy 2.7, and what each is here. The guide "Coming from Bandit or
  # Cowboy" has the same tables for people, with the reasons. How they are applied is not its concern.

  @typedoc """
  What becomes of an option: its name here, or its names in groups; the same for the larger of its value and of
  our default, or for its value times the acceptors; its own options; nothing, as there is nothing like it;
  nothing, as it always is so; an error.
  """
  @type target ::
          atom()
          | [{group :: atom(), atom()}]
          | {:at_least | :each_acceptor, atom() | [{atom(), atom()}]}
          | {:options, table()}
          | :none
          | :always
          | :refused

  @type table :: %{atom() => target()}

  @idle_timeout [http_1_options: :idle_timeout, http_2_options: :idle_timeout]
  @header_length [http_1_options: :max_header_length, http_2_options: :max_header_length]
  @send_timeout for group <- [:http_1_options, :http_2_options, :websocket_options],
                    do: {group, :send_timeout}
  @high_water_mark for {group, _name} <- @send_timeout, do: {group, :high_water_mark}

  none = &Map.new(&1, fn name -> {name, :none} end)
  always = &Map.new(&1, fn name -> {name, :always} end)

  @tls ~w(certs_keys sni_hosts versions verify fail_if_no_peer_cert cacertfile cacerts)a
       |> Map.new(&{&1, [tls_options: &1]})
       |> Map.merge(none.(~w(
    sni_fun verify_fun partial_chain depth crl_check crl_cache ciphers eccs supported_groups signature_algs
    signature_algs_cert dh dhfile honor_cipher_order honor_ecc_order session_tickets anti_replay
    alpn_preferred_protocols next_protocols_advertised psk_identity user_lookup_fun protocol handshake
    max_handshake_size middlebox_comp_mode key_update_at log_alert log_level)a))
       |> Map.merge(
         always.(
           ~w(
    reuse_session reuse_sessions client_renegotiation secure_renegotiate beast_mitigation padding_check)a
         )
       )

  @sockets %{
             ifaddr: :ip,
             reuseport: :reuse_port,
             reuseport_lb: :reuse_port,
             send_timeout: @send_timeout,
             high_watermark: @high_water_mark
           }
           |> Map.merge(none.(~w(
    ipv6_v6only low_watermark high_msgq_watermark low_msgq_watermark keepalive buffer recbuf sndbuf delay_send
    active mode packet exit_on_close inet_backend fd dontroute priority raw tos)a))
           |> Map.merge(always.(~w(reuseaddr send_timeout_close linger)a))

  # What sockets and TLS have under our own names.
  @same Map.new(
          ~w(ip port inet6 backlog nodelay certfile keyfile cert key password)a,
          &{&1, &1}
        )

  # `hibernate_after` of `:ssl` is another one than ours of the same name.
  @transport @sockets
             |> Map.merge(@tls)
             |> Map.merge(@same)
             |> Map.put(:hibernate_after, :none)

  @thousand_island %{
                     port: :port,
                     transport_options: {:options, @transport},
                     supervisor_options:
                       {:options, Map.put(none.(~w(max_restarts max_seconds)a), :name, :name)},
                     num_acceptors: :num_acceptors,
                     num_connections: {:each_acceptor, :max_connections},
                     read_timeout: @idle_timeout,
                     handshake_timeout: :handshake_timeout,
                     shutdown_timeout: :shutdown_timeout
                   }
                   |> Map.merge(none.(~w(
    transport_module handler_module handler_options genserver_options num_listen_sockets
    max_connections_retry_count max_connections_retry_wait silent_terminate_on_error)a))

  @ranch %{
           num_acceptors: :num_acceptors,
           max_connections: {:each_acceptor, :max_connections},
           handshake_timeout: :handshake_timeout,
           shutdown: :shutdown_timeout,
           socket_opts: {:options, @transport}
         }
         |> Map.merge(none.(~w(
    num_conns_sups num_listen_sockets alarms connection_type logger post_listen_callback)a))

  @cowboy %{
            hibernate: :always,
            chunked: :always,
            http10_keepalive: :always,
            sendfile: :always,
            idle_timeout: @idle_timeout,
            request_timeout: [http_1_options: :header_timeout],
            max_request_line_length: [http_1_options: :max_request_line_length],
            max_method_length: {:at_least, [http_1_options: :max_request_line_length]},
            max_headers: [http_1_options: :max_header_count, http_2_options: :max_header_count],
            max_keepalive: [http_1_options: :max_requests, http_2_options: :max_requests],
            max_skip_body_length: [http_1_options: :max_unread_length],
            proxy_header: :proxy_protocol,
            max_concurrent_streams: [http_2_options: :max_concurrent_streams],
            initial_stream_window_size: [http_2_options: :initial_window_size],
            max_stream_window_size: :none,
            max_stream_buffer_size: [http_2_options: :high_water_mark],
            max_fragmented_header_block_size: {:at_least, [http_2_options: :max_header_length]},
            goaway_initial_timeout: :none,
            goaway_complete_timeout: :none,
            preface_timeout: :handshake_timeout
          }
          # Theirs are of a part of the head, and ours is of all of it.
          |> Map.merge(
            Map.new(
              ~w(max_authority_length max_authorization_header_value_length max_header_name_length
                 max_cookie_header_value_length max_header_value_length)a,
              &{&1, {:at_least, @header_length}}
            )
          )
          |> Map.merge(none.(~w(
    active_n dynamic_buffer dynamic_buffer_initial_average dynamic_buffer_initial_size initial_stream_flow_size
    compress_buffering compress_threshold decompress_enabled decompress_ratio_limit connection_type env middlewares
    stream_handlers inactivity_timeout reset_idle_timeout_on_send invalid_response_headers linger_timeout logger
    max_empty_lines metrics_callback metrics_req_filter metrics_resp_headers_filter tracer_callback tracer_flags
    tracer_match_specs shutdown_timeout protocols alpn_default_protocol max_cancel_stream_rate max_reset_stream_rate
    max_received_frame_rate initial_connection_window_size max_connection_window_size connection_window_margin_size
    connection_window_update_threshold stream_window_margin_size stream_window_update_threshold
    stream_window_data_threshold max_connection_buffer_size max_decode_table_size max_encode_table_size
    max_frame_size_received max_frame_size_sent settings_timeout enable_connect_protocol)a))

  # Groups that Bandit has under names of ours: what they have more.
  @http none.(~w(log_exceptions_with_status_codes log_protocol_errors log_client_closures)a)
  @http_1 none.(~w(enabled log_unknown_messages)a)
          |> Map.put(:gc_every_n_keepalive_requests, :always)
  @http_2 none.(~w(max_reset_stream_rate sendfile_chunk_size)a)
          |> Map.put(:max_header_block_size, {:at_least, [http_2_options: :max_header_length]})
          |> Map.put(
            :default_local_settings,
            {:options,
             %{
               max_concurrent_streams: [http_2_options: :max_concurrent_streams],
               initial_window_size: [http_2_options: :initial_window_size],
               max_header_list_size: [http_2_options: :max_header_length],
               header_table_size: :none,
               max_frame_size: :none
             }}
          )
  @websocket %{
    enabled: :none,
    max_fragmented_message_size: [websocket_options: :max_frame_size],
    validate_text_frames: [websocket_options: :validate_utf8],
    max_inflate_ratio: :none,
    primitive_ops_module: :none,
    log_protocol_errors: :none
  }

  @top %{
         thousand_island_options: {:options, @thousand_island},
         transport_options: {:options, @ranch},
         protocol_options: {:options, @cowboy},
         compress: [http_options: :compress],
         dispatch: :refused,
         timeout: :always,
         ref: :none,
         stream_handlers: :none
       }
       |> Map.merge(@sockets)
       |> Map.merge(@tls)

  @extra %{
    http_options: @http,
    http_1_options: @http_1,
    http_2_options: @http_2,
    websocket_options: @websocket
  }

  @doc "What others take besides what is an option here."
  @spec top() :: table()
  def top, do: @top

  @doc "What Bandit takes in a group of ours besides the options that we have in it."
  @spec extra(group :: atom()) :: table() | nil
  def extra(group), do: @extra[group]
end
