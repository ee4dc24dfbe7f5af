import { Select, SimpleGrid } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { DELIMITERS, ENCODINGS, FORMATS, HEADERS, type Reading } from "./reading";

interface Props {
  reading: Reading;
  onChange: (reading: Reading) => void;
  /** What the platform found, shown behind "automatic". */
  found?: Partial<Record<keyof Reading, string>>;
  columns: string[];
}

/** How a file is read, and which columns hold the text and the label. */
export function ReadingFields({ reading, onChange, found = {}, columns }: Props) {
  const { t } = useTranslation();
  const set = (name: keyof Reading) => (value: string | null) => onChange({ ...reading, [name]: value ?? "" });
  const choice = (name: "format" | "encoding" | "delimiter" | "header", values: string[]) => (
    <Select
      key={name}
      label={t(`datasets.reading.${name}`)}
      data={values.map((value) => ({
        value,
        label:
          value === "auto"
            ? found[name]
              ? t("datasets.reading.autoFound", { found: shown(found[name]) })
              : t("datasets.reading.auto")
            : shown(value),
      }))}
      value={reading[name]}
      onChange={set(name)}
      allowDeselect={false}
    />
  );
  const shown = (value: string) => {
    if (value === "true") return t("common.yes");
    if (value === "false") return t("common.no");
    return value === "tab" || value === "\t" ? t("datasets.reading.tab") : value;
  };
  const column = (name: "text_column" | "text_pair_column" | "label_column") => (
    <Select
      key={name}
      label={t(`datasets.reading.${name}`)}
      description={t(`datasets.reading.${name}_note`)}
      data={columns}
      value={reading[name] || found[name] || null}
      onChange={set(name)}
      placeholder={name === "text_pair_column" ? t("datasets.reading.none") : t("datasets.reading.choose")}
      clearable={name === "text_pair_column"}
      allowDeselect={name === "text_pair_column"}
      disabled={columns.length === 0}
      searchable={columns.length > 8}
    />
  );
  return (
    <>
      <SimpleGrid cols={{ base: 1, xs: 2, md: 4 }}>
        {choice("format", FORMATS)}
        {choice("encoding", ENCODINGS)}
        {choice("delimiter", DELIMITERS)}
        {choice("header", HEADERS)}
      </SimpleGrid>
      <SimpleGrid cols={{ base: 1, sm: 3 }}>
        {column("text_column")}
        {column("label_column")}
        {column("text_pair_column")}
      </SimpleGrid>
    </>
  );
}
