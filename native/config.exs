defmodule Ferrosock.EngineConfig do
  # What Rust knows of the options, by their table: the engine's structs, and for the NIF the list of what
  # it decodes. Run by `bin/config`, which writes it; a test sees to it that it was run.

  alias Ferrosock.Options.Engine

  @width 100

  @doc "Of each file, its path and what it is to have."
  def files do
    %{
      "native/engine/src/config.rs" => engine(),
      "native/nif/src/options/list.rs" => list()
    }
  end

  defp engine do
    """
    //! The limits and times that the engine enforces. Written by `bin/config` from the table of the options,
    //! lib/ferrosock/options/table.ex: what is to change is changed there.

    use std::time::Duration;

    use crate::net::Address;

    #{Enum.map_join(Engine.configs(), "\n", &config_struct/1)}\
    #{Enum.map_join(choices(), &choice/1)}
    """
    |> String.trim_trailing()
    |> Kernel.<>("\n")
  end

  defp config_struct({config, fields}) do
    """
    #{comment(about(config), "")}
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct #{name(config)} {
    #{Enum.map_join(fields, "\n", &field/1)}
    }
    """ <> default(config, fields)
  end

  # What the engine's own tests take; a server is given all of them.
  defp default(:deflate, fields) do
    values = for {name, {_, default, _, _}} <- fields, do: "            #{name}: #{default},\n"

    """

    impl Default for #{name(:deflate)} {
        fn default() -> Self {
            Self {
    #{values}\
            }
        }
    }
    """
  end

  defp default(_config, _fields), do: ""

  defp field({name, {type, _default, doc, rust}}),
    do: comment(said(type, doc), "    ") <> "\n    pub #{name}: #{rust(type, rust)},"

  defp choice({name, {{:one_of, values}, _default, doc, rust}}) do
    """

    #{comment("Of `#{name}`: " <> doc, "")}
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum #{rust} {
    #{Enum.map_join(values, "\n", &"    #{camel(&1)},")}
    }
    """
  end

  defp list do
    """
    //! What of the options the engine has. Written by `bin/config` from their table,
    //! lib/ferrosock/options/table.ex: what is to change is changed there.

    use super::{Config, Env, Error, NifResult, Term, Value, none_but, option};
    use rustler::Encoder;

    #{Enum.map_join(Engine.configs(), "\n", &names/1)}
    #{Enum.map_join(choices(), &values/1)}
    """
    |> String.trim_trailing()
    |> Kernel.<>("\n")
  end

  defp names({config, fields}) do
    names = Enum.map_join(fields, "\n", fn {name, _field} -> "    #{name},\n" end)
    "config!(#{name(config)} {\n#{String.replace(names, "\n\n", "\n")}});\n"
  end

  defp values({_name, {{:one_of, values}, _default, _doc, rust}}),
    do: "choice!(#{rust} {\n#{Enum.map_join(values, &"    #{&1} => #{camel(&1)},\n")}});\n"

  defp choices do
    for {_config, fields} <- Engine.configs(),
        {_name, {{:one_of, _values}, _, _, _}} = field <- fields,
        do: field
  end

  defp about(:listener), do: "A listener, and the connections of HTTP/1"
  defp about(:http2), do: "The connections of HTTP/2"
  defp about(:socket), do: "A WebSocket"
  defp about(:deflate), do: "How a WebSocket may be compressed by permessage-deflate"

  # What is counted in ms is a time there.
  defp said(type, doc) when type in [:ms, :timeout], do: "time " <> doc
  defp said(:limit, doc), do: doc <> "; the largest number is no limit"
  defp said(_type, doc), do: doc

  defp rust(:timeout, rust), do: "Option<#{rust}>"
  defp rust({:config, _config}, rust), do: "Option<#{rust}>"
  defp rust(_type, rust), do: rust

  defp name(config), do: camel(config) <> "Config"
  defp camel(name), do: name |> to_string() |> Macro.camelize()

  defp comment(text, indent) do
    <<first::utf8, rest::binary>> = text
    words = String.split(String.upcase(<<first::utf8>>) <> rest <> ".")
    start = indent <> "///"

    {lines, line} =
      Enum.reduce(words, {[], start}, fn word, {lines, line} ->
        if String.length(line) + 1 + String.length(word) > @width,
          do: {[line | lines], start <> " " <> word},
          else: {lines, line <> " " <> word}
      end)

    Enum.join(Enum.reverse([line | lines]), "\n")
  end
end
