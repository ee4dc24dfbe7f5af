import { NumberInput, Select } from "@mantine/core";
import { useTranslation } from "react-i18next";

/** What a deployment follows, and on how many nodes it answers. */
export interface DeploymentChoice {
  revision: string;
  replicas: number | string;
}

interface Props {
  value: DeploymentChoice;
  onChange: (value: DeploymentChoice) => void;
  revisions: { value: string; label: string }[];
}

/** The fields that a new deployment and a changed one share. */
export function DeploymentFields({ value, onChange, revisions }: Props) {
  const { t } = useTranslation();
  return (
    <>
      <Select
        label={t("models.revision")}
        description={t("models.revisionNote")}
        data={revisions}
        value={value.revision}
        onChange={(revision) => revision && onChange({ ...value, revision })}
        allowDeselect={false}
      />
      <NumberInput
        label={t("models.replicas")}
        value={value.replicas}
        onChange={(replicas) => onChange({ ...value, replicas })}
        min={1}
        allowDecimal={false}
        required
      />
    </>
  );
}
