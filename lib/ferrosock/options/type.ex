defmodule Ferrosock.Options.Type do
  @moduledoc false
  # The types that an option can have: how each is checked, and how it is told to people.

  import Ferrosock.CloseCode, only: [is_close_code: 1]
  # unix(7): what an address has room for, and the NUL after it.
  @max_path 107

  # What `receive` can wait for in ms, and what the engine's counters hold. An option that has less room
  # is a `:range`.
  @max 4_294_967_295

  # Words: a small integer of the VM.
  @max_heap 2 ** 59 - 1

  @levels [:emergency, :alert, :critical, :error, :warning, :notice, :info, :debug]

  @key_types [:RSAPrivateKey, :ECPrivateKey, :PrivateKeyInfo]

  @identity_types %{
    certfile: :file,
    keyfile: :file,
    cert: :cert,
    key: :key,
    password: :password
  }
  @identity "a keyword list or map of `:certfile`, `:keyfile`, `:cert`, `:key` and `:password`"

  @type t ::
          :any
          | :app
          | :boolean
          | :cert
          | :close_code
          | :ders
          | :file
          | :heap_size
          | :hosts
          | :identities
          | :ip
          | :key
          | :keyword
          | :limit
          | :log_level
          | :ms
          | :name
          | :non_neg_integer
          | :password
          | :plug
          | :pos_integer
          | :sock
          | :timeout
          | {:count, pos_integer()}
          | {:list_of, [atom() | String.t()]}
          | {:one_of, [atom()]}
          | {:range, Range.t()}

  @doc "Whether the value has the type."
  @spec valid?(t(), term()) :: boolean()
  def valid?(:any, _value), do: true
  def valid?(:app, value), do: module?(value)
  def valid?(:boolean, value), do: is_boolean(value)
  def valid?(:cert, value), do: is_binary(value) or valid?(:ders, value)
  def valid?(:close_code, value), do: is_close_code(value)
  def valid?({:count, max}, value), do: value == :default or valid?({:range, 1..max}, value)
  def valid?(:ders, value), do: is_list(value) and value != [] and Enum.all?(value, &is_binary/1)

  def valid?(:file, [_ | _] = value),
    do: not List.improper?(value) and List.ascii_printable?(value)

  def valid?(:file, value), do: is_binary(value) and value != ""

  def valid?(:heap_size, %{size: size} = value) do
    rest = Map.drop(value, [:size, :kill, :error_logger, :include_shared_binaries])
    flags = value |> Map.delete(:size) |> Map.values()
    valid?(:heap_size, size) and rest == %{} and Enum.all?(flags, &is_boolean/1)
  end

  def valid?(:heap_size, value), do: value == 0 or valid?({:range, heap_sizes()}, value)

  def valid?(:hosts, value) do
    is_list(value) and
      Enum.all?(value, fn
        {host, identity} -> valid?(:file, host) and identity?(identity)
        _other -> false
      end)
  end

  def valid?(:identities, value), do: is_list(value) and Enum.all?(value, &identity?/1)
  def valid?(:ip, {:local, path}), do: is_binary(path) and byte_size(path) in 1..@max_path
  def valid?(:ip, value), do: value in [:any, :loopback] or :inet.is_ip_address(value)
  def valid?(:key, {type, der}), do: type in @key_types and is_binary(der)
  def valid?(:key, value), do: is_binary(value)
  def valid?(:keyword, value), do: Keyword.keyword?(value)
  def valid?(:limit, value), do: value == :infinity or valid?(:pos_integer, value)
  def valid?(:log_level, value), do: value in [false | @levels]
  def valid?(:ms, value), do: valid?(:pos_integer, value)
  def valid?(:name, {:global, _term}), do: true
  def valid?(:name, {:via, module, _term}), do: module?(module)
  def valid?(:name, value), do: value == nil or module?(value)
  def valid?(:non_neg_integer, value), do: valid?({:range, 0..@max}, value)
  def valid?(:password, value), do: valid?(:file, value) or is_function(value, 0)
  def valid?(:plug, value), do: plug?(value)
  def valid?(:pos_integer, value), do: valid?({:range, 1..@max}, value)
  def valid?(:sock, {module, _argument}), do: module?(module)
  def valid?(:sock, value), do: module?(value)
  def valid?(:timeout, value), do: valid?(:limit, value)

  def valid?({:list_of, values}, [_ | _] = list),
    do: not List.improper?(list) and Enum.all?(list, &(&1 in values))

  def valid?({:list_of, _values}, _value), do: false
  def valid?({:one_of, values}, value), do: value in values
  def valid?({:range, range}, value), do: is_integer(value) and value in range

  @doc "What the type accepts, in words."
  @spec describe(t()) :: String.t()
  def describe(:any), do: "any term"
  def describe(:app), do: "the name of an application"
  def describe(:boolean), do: "a boolean"
  def describe(:cert), do: "a binary in PEM or DER, or a list of binaries in DER"

  def describe(:close_code),
    do: "a close code that may be sent: 1000 to 1003, 1007 to 1014 or 1016 to 4999"

  def describe({:count, max}), do: "an integer from 1 to #{max} or `:default`"
  def describe(:ders), do: "a list of binaries in DER"
  def describe(:file), do: "a path, as a string or a charlist"

  def describe(:heap_size) do
    first..last//_ = heap_sizes()
    "a number of words, 0 or #{first} to #{last}, or a map, as in `:erlang.max_heap_size()`"
  end

  def describe(:ip) do
    "an IP address as a tuple, or `:any`, or `:loopback`, or `{:local, path}` with the path of a " <>
      "Unix socket in up to #{@max_path} bytes"
  end

  def describe(:hosts), do: "a list of tuples of a host name and " <> @identity
  def describe(:identities), do: "a list with, for each, " <> @identity

  def describe(:key) do
    "a binary in PEM, or a tuple of `:RSAPrivateKey`, `:ECPrivateKey` or `:PrivateKeyInfo` and a binary " <>
      "in DER"
  end

  def describe(:keyword), do: "a keyword list"
  def describe(:limit), do: describe(:pos_integer) <> " or `:infinity`"
  def describe(:log_level), do: "a log level or `false`"
  def describe(:ms), do: describe(:pos_integer)
  def describe(:name), do: "an atom, `{:global, term}` or `{:via, module, term}`"
  def describe(:non_neg_integer), do: describe({:range, 0..@max})

  def describe(:plug),
    do: "a module, a tuple of a module and its options, or a function of arity 2"

  def describe(:password),
    do: "a string, a charlist, or a function without arguments that returns one"

  def describe(:pos_integer), do: describe({:range, 1..@max})
  def describe(:sock), do: "a module, or a tuple of a module and the argument of its `init/1`"
  def describe(:timeout), do: describe(:limit)

  def describe({:list_of, values}), do: "a list of one or more: " <> choices(values)
  def describe({:one_of, values}), do: "any of " <> choices(values)

  def describe({:range, first..last//_}), do: "an integer from #{first} to #{last}"

  @doc "What an integer of the type counts, where that is the same for all: `nil` where the option says it."
  @spec unit(t()) :: String.t() | nil
  def unit(type) when type in [:ms, :timeout], do: "ms"
  def unit(_type), do: nil

  @doc "The least integer that the type accepts; `nil` where it is none of integers."
  @spec min(t()) :: integer() | nil
  def min({:count, _max}), do: 1
  def min({:range, first.._last//_}), do: first
  def min(:close_code), do: 1000
  def min(type) when type in [:heap_size, :non_neg_integer], do: 0
  def min(type) when type in [:limit, :ms, :pos_integer, :timeout], do: 1
  def min(_type), do: nil

  @doc "The largest integer that the type accepts; `nil` where it is none of integers."
  @spec max(t()) :: integer() | nil
  def max({:count, max}), do: max
  def max({:range, _first..last//_}), do: last
  def max(:heap_size), do: @max_heap
  def max(:close_code), do: 4999
  def max(type) when type in [:limit, :ms, :non_neg_integer, :pos_integer, :timeout], do: @max
  def max(_type), do: nil

  defp choices(values), do: Enum.map_join(values, ", ", &"`#{inspect(&1)}`")

  defp identity?(identity) do
    (is_map(identity) or Keyword.keyword?(identity)) and
      Enum.all?(identity, fn {name, value} ->
        @identity_types[name] && valid?(@identity_types[name], value)
      end)
  end

  # 0 is no limit; one must hold the smallest heap.
  defp heap_sizes do
    {:min_heap_size, min} = :erlang.system_info(:min_heap_size)
    min..@max_heap
  end

  defp plug?({module, _options}), do: module?(module)
  defp plug?(value), do: is_function(value, 2) or module?(value)

  defp module?(value), do: is_atom(value) and not is_boolean(value) and value != nil
end
