import { Select, SimpleGrid, TextInput } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { DELIMITERS, ENCODINGS, FORMATS, HEADERS, type Reading, TASKS, taskOf } from "./reading";

const OPTIONAL = ["text_pair_column", "references_column"];

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
  const task = taskOf(reading);
  const column = (name: "text_column" | "text_pair_column" | "label_column" | "references_column") => (
    <Select
      key={name}
      label={t(`datasets.reading.${name}`)}
      description={name === "label_column" ? t(`datasets.labelOf.${task}`) : t(`datasets.reading.${name}_note`)}
      data={columns}
      value={reading[name] || found[name] || null}
      onChange={set(name)}
      placeholder={OPTIONAL.includes(name) ? t("datasets.reading.none") : t("datasets.reading.choose")}
      clearable={OPTIONAL.includes(name)}
      allowDeselect={OPTIONAL.includes(name)}
      disabled={columns.length === 0}
      searchable={columns.length > 8}
    />
  );
  return (
    <>
      <SimpleGrid cols={{ base: 1, sm: 2 }}>
        <Select
          label={t("datasets.task")}
          description={t(`datasets.taskNote.${task}`)}
          data={TASKS.map((value) => ({ value, label: t(`task.${value}`) }))}
          value={task}
          onChange={set("task")}
          allowDeselect={false}
        />
        {task === "multilabel" && (
          <TextInput
            label={t("datasets.reading.label_separator")}
            description={t("datasets.reading.label_separator_note")}
            placeholder={t("datasets.reading.auto")}
            value={reading.label_separator}
            maxLength={1}
            onChange={(event) => set("label_separator")(event.currentTarget.value)}
          />
        )}
        {task === "generation" && column("references_column")}
      </SimpleGrid>
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
