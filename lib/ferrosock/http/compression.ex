defmodule Ferrosock.HTTP.Compression do
  @moduledoc false
  # The content coding of a response (RFC9110§8.4): whether it may have one, which one both sides accept, and
  # the coded body. How a body is sent is not its concern.
  #
  # Only whole bodies are coded. Chunks may come from any process, and from an app that ignores the conn which
  # `chunk/2` returns, but a compressor belongs to one process and must be closed at the end. Files are left
  # to the kernel to send.

  alias Ferrosock.HTTP.{Exchange, Header, Response}

  # OTP 28 brought the module.
  @zstd? Code.ensure_loaded?(:zstd)

  @codings if @zstd?, do: ["zstd", "gzip", "deflate"], else: ["gzip", "deflate"]

  # Bytes. A smaller body goes out in one packet as it is.
  @threshold 1_024

  # Bytes. One call into the VM compresses all of a binary with zstd; for this many it takes some tenths of a
  # millisecond.
  @piece 65_536

  # The names of the fields that say something about these very bytes: that they have a coding or are a part,
  # their digest (RFC9530, RFC3230, RFC1864), or a signature that may cover it (RFC9421).
  @of_the_bytes ["content-encoding", "content-range", "content-digest", "repr-digest", "digest"] ++
                  ["content-md5", "signature", "signature-input"]

  @doc "The headers and the body of a response as this client gets them."
  @spec encode(Exchange.t(), Plug.Conn.int_status(), Plug.Conn.headers(), iodata()) ::
          {Plug.Conn.headers(), iodata()}
  def encode(%{options: %{http_options: options}} = exchange, status, headers, body) do
    size = IO.iodata_length(body)
    subject = if options.compress, do: subject(exchange.method, status, size), else: :nothing

    cond do
      subject == :nothing or fixed?(headers) -> {headers, body}
      subject == :head -> {vary(headers), body}
      subject == :body -> encode_body(exchange, vary(headers), body, size)
    end
  end

  @doc """
  The first of `codings` that the client accepts, given the values of its `accept-encoding`
  (RFC9110§12.5.3). `nil` for none, and where it prefers `identity`.
  """
  @spec negotiate([binary()], [String.t()]) :: String.t() | nil
  def negotiate(accept_encoding, codings) do
    accepted =
      for value <- accept_encoding, element <- list(value), into: %{}, do: weighted(element)

    any = Map.get(accepted, "*", 0.0)
    identity = Map.get(accepted, "identity", 0.0)

    Enum.find(codings, fn coding ->
      weight = Map.get(accepted, coding, any)
      coding in @codings and weight > 0 and weight >= identity
    end)
  end

  # A response to a part (RFC9110§15.3.7), and one that describes its content without having it, say what the
  # whole response would depend on. So does a response to HEAD whose body the app did not make.
  defp subject(_method, 206, _size), do: :head

  defp subject(method, status, size) do
    case Response.content(method, status) do
      :none -> :nothing
      :described -> :head
      :left_out when size == 0 -> :head
      _content -> if size < @threshold, do: :nothing, else: :body
    end
  end

  # The bytes must stay as they are also if the response has a strong validator of them (RFC9110§8.8.1), or if
  # the app forbids to change them (RFC9111§5.2.2.6).
  defp fixed?(headers) do
    Enum.any?(headers, fn {name, value} -> fixes?(String.downcase(name, :ascii), value) end)
  end

  defp fixes?(name, _value) when name in @of_the_bytes, do: true
  defp fixes?("etag", "W/" <> _tag), do: false
  defp fixes?("etag", _tag), do: true
  defp fixes?("cache-control", value), do: "no-transform" in list(value)
  defp fixes?(_name, _value), do: false

  defp vary(headers) do
    {vary, others} = Enum.split_with(headers, fn {name, _} -> Header.named?(name, "vary") end)
    values = for {_vary, value} <- vary, value != "", do: value
    fields = Enum.flat_map(values, &list/1)

    if "*" in fields or "accept-encoding" in fields,
      do: headers,
      else: [{"vary", Enum.join(values ++ ["accept-encoding"], ", ")} | others]
  end

  defp encode_body(%{options: %{http_options: options}} = exchange, headers, body, size) do
    coding = negotiate(exchange.accept_encoding, options.response_encodings)
    coded = coding && code(coding, body, options)

    if coded && IO.iodata_length(coded) < size,
      do: {[{"content-encoding", coding} | Response.delete_length(headers)], coded},
      else: {headers, body}
  end

  defp weighted(element) do
    [coding | parameters] = element |> String.split(";") |> Enum.map(&String.trim/1)
    {canonical(coding), weight(parameters)}
  end

  # The old name means the same (RFC9110§8.4.1.3).
  defp canonical("x-gzip"), do: "gzip"
  defp canonical(coding), do: coding

  # A malformed weight (RFC9110§12.4.2) counts as a refusal, because a body without a coding is always right.
  defp weight([]), do: 1.0

  defp weight(["q=" <> value]) do
    if value =~ ~r/\A(0(\.\d{0,3})?|1(\.0{0,3})?)\z/,
      do: value |> Float.parse() |> elem(0),
      else: 0.0
  end

  defp weight(_parameters), do: 0.0

  # Names and tokens are compared without regard to case.
  defp list(value), do: value |> String.downcase(:ascii) |> Plug.Conn.Utils.list()

  defp code("gzip", body, options), do: deflate(body, options.deflate_options, 16)
  defp code("deflate", body, options), do: deflate(body, options.deflate_options, 0)

  if @zstd? do
    defp code("zstd", body, options),
      do: body |> IO.iodata_to_binary() |> pieces() |> :zstd.compress(options.zstd_options)

    defp pieces(<<piece::binary-size(@piece), rest::binary>>), do: [piece | pieces(rest)]
    defp pieces(rest), do: [rest]
  end

  # The coding named deflate has zlib's format (RFC9110§8.4.1.2); 16 added to the window bits ask for gzip's. OTP
  # gives the scheduler back every few kB.
  defp deflate(body, options, format) do
    z = :zlib.open()

    try do
      window_bits = format + options.window_bits
      %{level: level, mem_level: mem_level, strategy: strategy} = options
      :ok = :zlib.deflateInit(z, level, :deflated, window_bits, mem_level, strategy)
      :zlib.deflate(z, body, :finish)
    after
      :zlib.close(z)
    end
  end
end
