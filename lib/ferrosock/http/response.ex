defmodule Ferrosock.HTTP.Response do
  @moduledoc false
  # Which responses have a body, and what `content-length` says of it. The length of a body that is sent whole
  # is not among that: the engine counts it, whatever the app says. How a body is sent is the concern of
  # `Ferrosock.HTTP.Body`, and whether it is compressed that of `Ferrosock.HTTP.Compression`.

  alias Ferrosock.HTTP.Header

  @typedoc """
  What a response has of its content (RFC9110§6.4.1):

    * `:none` - nothing, and its header describes none: 204 and 205 (RFC9110§15.3.5, §15.3.6)
    * `:described` - nothing, but its header describes the content of a 200: 304 (RFC9110§15.4.5)
    * `:left_out` - the header is as with GET, without the body: HEAD (RFC9110§9.3.2)
    * `:sent` - all of it
  """
  @type content :: :none | :described | :left_out | :sent

  @doc "What the response with the status to the method has of its content."
  @spec content(Plug.Conn.method(), Plug.Conn.int_status()) :: content()
  def content(_method, status) when status in [204, 205], do: :none
  def content(_method, 304), do: :described
  def content("HEAD", _status), do: :left_out
  def content(_method, _status), do: :sent

  @doc "Says how long a body is that is not sent whole."
  @spec put_length(Plug.Conn.headers(), non_neg_integer()) :: Plug.Conn.headers()
  def put_length(headers, size),
    do: Header.put(headers, "content-length", Integer.to_string(size))

  @doc "Takes back the length that the app has set, as the body is no longer the app's."
  @spec delete_length(Plug.Conn.headers()) :: Plug.Conn.headers()
  def delete_length(headers), do: Header.delete(headers, "content-length")
end
