import { Group, Select, Stack, TextInput } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { api, reload } from "@/api/client";
import type { Model, VersionRow } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { Section } from "@/components/Section";
import { useWorkspace } from "@/session/session";

/** Points a name at a version; whatever serves that name follows. */
export function Aliases({ model, versions }: { model: Model; versions: VersionRow[] }) {
  const { t } = useTranslation();
  const { canEdit } = useWorkspace();
  const [alias, setAlias] = useState("production");
  const [number, setNumber] = useState(String(versions[0]?.number ?? ""));
  const deployments = api.useQuery("get", "/api/v1/deployments", {
    params: { query: { workspace: model.workspace, model: model.repo, page_size: 200 } },
  });
  const move = api.useMutation("put", "/api/v1/models/{namespace}/{name}/aliases/{alias}", {
    onSuccess: () => reload("/api/v1/models", "/api/v1/deployments", "/api/v1/nodes"),
  });
  if (!canEdit) return null;
  const following = (deployments.data?.results ?? []).filter(({ revision }) => revision === alias);
  const before = model.aliases.find(({ name }) => name === alias)?.version;
  const names = following.map((deployment) =>
    t("models.onNodes", { name: deployment.name, count: deployment.placements.length }),
  );
  const values = { alias, from: before, to: number, names: names.join(", ") };
  const question =
    before === undefined
      ? t("models.setQuestion", values)
      : t(names.length > 0 ? "models.moveServing" : "models.moveQuestion", values);
  const act = () =>
    move.mutateAsync({
      params: { path: { namespace: model.workspace, name: model.name, alias } },
      body: { version: Number(number) },
    });
  return (
    <Section title={t("models.aliasTitle")} note={t("models.aliasNote")}>
      <Stack gap="xs">
        <Group align="flex-end" gap="sm">
          <TextInput
            label={t("models.alias")}
            value={alias}
            required
            onChange={(event) => setAlias(event.currentTarget.value)}
          />
          <Select
            label={t("models.version")}
            data={versions.map((version) => ({ value: String(version.number), label: `v${version.number}` }))}
            value={number}
            onChange={(value) => value && setNumber(value)}
            allowDeselect={false}
            w={110}
          />
          <Confirm
            label={before === undefined ? t("models.aliasSet") : t("models.aliasMove", { from: before, to: number })}
            question={question}
            act={act}
            busy={move.isPending}
            error={move.error}
            color="cyan"
            disabled={alias === "" || String(before ?? "") === number}
          />
        </Group>
        {names.length > 0 && <span>{t("models.serving", { names: names.join(", ") })}</span>}
      </Stack>
    </Section>
  );
}
