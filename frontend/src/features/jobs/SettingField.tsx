import { NumberInput, Select, Switch } from "@mantine/core";
import type { TrainSettings } from "@/api/types";
import { settingText } from "@/i18n";
import { type Setting, spoken } from "./settings";

interface Props {
  setting: Setting;
  values: TrainSettings;
  onChange: (values: TrainSettings) => void;
  error?: string;
}

/** A setting's field, drawn from its definition: kind, choices, bounds, default and one-line description. */
export function SettingField({ setting, values, onChange, error }: Props) {
  const { name, default: standard } = setting;
  const { label, description } = settingText(name, spoken(name), setting.description);
  const value = values[name] ?? standard;
  const set = (next: unknown) => {
    const { [name]: _, ...others } = values;
    onChange(next === standard || next === "" ? others : { ...others, [name]: next });
  };
  if (setting.type === "boolean") {
    return (
      <Switch
        label={label}
        description={description}
        error={error}
        checked={value === true}
        onChange={(event) => set(event.currentTarget.checked)}
      />
    );
  }
  if (setting.type === "choice") {
    return (
      <Select
        label={label}
        description={description}
        error={error}
        data={setting.choices ?? []}
        value={String(value)}
        onChange={set}
        allowDeselect={false}
      />
    );
  }
  return (
    <NumberInput
      label={label}
      description={description}
      error={error}
      value={typeof values[name] === "number" ? values[name] : ""}
      placeholder={String(standard)}
      onChange={set}
      min={setting.minimum ?? setting.exclusiveMinimum}
      max={setting.maximum ?? setting.exclusiveMaximum}
      allowDecimal={setting.type === "number"}
      allowNegative={false}
      step={setting.type === "integer" ? 1 : Number(standard) / 10 || 0.1}
      hideControls={setting.type === "number"}
    />
  );
}
