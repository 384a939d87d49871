defmodule Ferrosock.PhoenixAdapter.Config do
  @moduledoc false
  # What the `http:` or `https:` of an endpoint is as options of a server. It may be ours, or written for Bandit or
  # Plug.Cowboy. What is ours wins over what is translated. What neither knows is left to the server, which
  # refuses it.

  alias Ferrosock.Options.{Table, Type}
  alias Ferrosock.PhoenixAdapter.Foreign

  @tables Table.all()

  # Both others have so many.
  @their_acceptors 100

  @type ignored :: String.t()

  @doc "The options, and those that there is nothing for. Raises `ArgumentError`."
  @spec options(term()) :: {keyword(), [ignored()]}
  def options(given) do
    {ours, theirs} = given |> list!([]) |> Enum.flat_map(&inet/1) |> split()
    {ignored, translated} = Enum.split_with(theirs, &is_binary/1)
    # The first of a name counts, as it does in a keyword list.
    options = (ours ++ translated) |> Enum.reverse() |> Enum.reduce([], &put/2)
    {options, ignored}
  end

  defp split(given) do
    {ours, theirs} =
      given
      |> Enum.map(fn {name, value} -> {ours(name, value), theirs(name, value)} end)
      |> Enum.unzip()

    {Enum.concat(ours), Enum.concat(theirs)}
  end

  # Each as `{path, value}`.
  defp ours(name, value) do
    cond do
      extra = Foreign.extra(name) ->
        for {inner, value} <- keyword!(value, [name]),
            not is_map_key(extra, inner),
            do: {[name, inner], converted([name, inner], value)}

      is_map_key(Foreign.top(), name) ->
        []

      name == :port ->
        [{[:port], port!(value)}]

      # It is the adapter that says where the endpoint runs.
      name == :startup_log and not Type.valid?(:log_level, value) ->
        raise ArgumentError,
              "invalid value for option :startup_log: #{inspect(value)}; accepted is " <>
                Type.describe(:log_level)

      true ->
        [{[name], value}]
    end
  end

  defp theirs(name, value) do
    cond do
      extra = Foreign.extra(name) ->
        translate(Keyword.take(value, Map.keys(extra)), extra, [name])

      is_map_key(Foreign.top(), name) ->
        translate([{name, value}], Foreign.top(), [])

      true ->
        []
    end
  end

  defp translate(given, table, where) do
    Enum.flat_map(given, fn {name, value} ->
      case table do
        %{^name => target} -> apply_target(target, name, value, given, where)
        %{} -> unknown!(name, where)
      end
    end)
  end

  defp apply_target(:always, _name, _value, _siblings, _where), do: []

  defp apply_target(:refused, name, _value, _siblings, _where) do
    raise ArgumentError,
          "option #{inspect(name)} routes to handlers of Cowboy, which cannot be served: remove it, and route to Plugs " <>
            "and to sockets in the endpoint or its router"
  end

  defp apply_target(:none, name, _value, _siblings, where), do: [told(name, where)]

  defp apply_target({:options, table}, name, value, _siblings, where) do
    where = where ++ [name]
    value |> list!(where) |> Enum.flat_map(&inet/1) |> translate(table, where)
  end

  defp apply_target({:at_least, target}, _name, value, _siblings, _where),
    do: for(path <- paths(target), do: {path, {:at_least, value}})

  defp apply_target({:each_acceptor, target}, _name, value, siblings, _where) do
    acceptors = Keyword.get(siblings, :num_acceptors, @their_acceptors)
    value = if is_integer(value), do: value * acceptors, else: value
    for path <- paths(target), do: {path, value}
  end

  defp apply_target(:port, _name, value, _siblings, _where), do: [{[:port], port!(value)}]

  defp apply_target(target, _name, value, _siblings, _where),
    do: for(path <- paths(target), do: {path, converted(path, value)})

  defp paths(name) when is_atom(name), do: [[name]]
  defp paths(names), do: Enum.map(names, &Tuple.to_list/1)

  # Bare atoms, as options of `:gen_tcp` may be, and Plug.Cowboy's word for them.
  defp inet(:inet), do: []
  defp inet({:net, :inet}), do: []
  defp inet(:inet6), do: [inet6: true]
  defp inet({:net, :inet6}), do: [inet6: true]
  # An option of the kernel's that `:gen_tcp` has no name for.
  defp inet({:raw, protocol, number, value}), do: [raw: {protocol, number, value}]
  defp inet({name, _value} = option) when is_atom(name), do: [option]
  defp inet(other), do: raise(ArgumentError, "invalid option #{inspect(other)}")

  # What others say for a time without end, for none, for a size without limit, and for gzip once more; their
  # options of zstd are a map.
  defp converted(path, value) do
    case {type(path), value} do
      {:ms, :infinity} -> Type.max(:ms)
      {:ms, :brutal_kill} -> Type.min(:ms)
      {:limit, 0} -> :infinity
      {{:list_of, _encodings}, [_ | _]} -> value -- ["x-gzip"]
      {{:options, _table}, %{}} -> Map.to_list(value)
      _other -> value
    end
  end

  defp port!({:system, name}) when is_binary(name) do
    port!(
      System.get_env(name) ||
        raise(
          ArgumentError,
          "option :port names the environment variable #{name}, which is not set"
        )
    )
  end

  defp port!(value) when is_binary(value) do
    case Integer.parse(value) do
      {port, ""} -> port
      _other -> value
    end
  end

  defp port!(value), do: value

  defp put({[name], value}, options), do: Keyword.put(options, name, value)

  defp put({[group, name] = path, {:at_least, value}}, options) do
    {_type, default} = row(path)
    inner = Keyword.get(options, group, [])
    value = max(value, Keyword.get(inner, name, default))
    Keyword.put(options, group, Keyword.put(inner, name, value))
  end

  defp put({[group, name], value}, options),
    do: Keyword.update(options, group, [{name, value}], &Keyword.put(&1, name, value))

  defp type(path), do: path |> row() |> elem(0)

  # What the tables say of an option. The server refuses what they do not have.
  defp row([name]), do: row(@tables.server, name)

  defp row([group, name]) do
    {{:options, table}, _default} = row([group])
    row(table, name)
  end

  defp row(table, name) do
    case Keyword.fetch(table, name) do
      {:ok, option} -> {elem(option, 0), elem(option, 1)}
      :error -> {:any, nil}
    end
  end

  defp list!(value, where) do
    if is_list(value),
      do: value,
      else: raise(ArgumentError, "options#{of(where)} must be a list, got: #{inspect(value)}")
  end

  defp keyword!(value, where) do
    if Keyword.keyword?(value),
      do: value,
      else:
        raise(
          ArgumentError,
          "options#{of(where)} must be a keyword list, got: #{inspect(value)}"
        )
  end

  defp unknown!(name, where),
    do: raise(ArgumentError, "unknown option #{inspect(name)}#{of(where)}")

  defp told(name, where), do: inspect(name) <> of(where)

  defp of([]), do: ""
  defp of(where), do: " in " <> (where |> Enum.reverse() |> Enum.map_join(" of ", &inspect/1))
end
