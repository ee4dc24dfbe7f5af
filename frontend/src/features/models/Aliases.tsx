import { Button, Group, Select, Stack, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api, reload } from "@/api/client";
import type { Model, Version } from "@/api/types";
import { ErrorNote } from "@/components/ErrorNote";
import { Section } from "@/components/Section";
import { useWorkspace } from "@/session/session";

/** Points a name at a version; whatever serves that name follows. */
export function Aliases({ model, versions }: { model: Model; versions: Version[] }) {
  const { t } = useTranslation();
  const { canEdit } = useWorkspace();
  const [alias, setAlias] = useState("production");
  const [number, setNumber] = useState(String(versions[0]?.number ?? ""));
  const deployments = api.useQuery("get", "/api/v1/deployments", {
    params: { query: { workspace: model.workspace, page_size: 200 } },
  });
  const move = api.useMutation("put", "/api/v1/models/{namespace}/{name}/aliases/{alias}", {
    onSuccess: () => reload("/api/v1/models", "/api/v1/deployments", "/api/v1/nodes"),
  });
  if (!canEdit) return null;
  const following = (deployments.data?.results ?? []).filter(
    (deployment) => deployment.model === model.repo && deployment.revision === alias,
  );
  const before = model.aliases.find(({ name }) => name === alias)?.version;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    move.mutate({
      params: { path: { namespace: model.workspace, name: model.name, alias } },
      body: { version: Number(number) },
    });
  };
  return (
    <Section title={t("models.aliasTitle")} note={t("models.aliasNote")}>
      <form onSubmit={submit}>
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
            <Button type="submit" variant="default" loading={move.isPending} disabled={String(before ?? "") === number}>
              {before === undefined ? t("models.aliasSet") : t("models.aliasMove", { from: before, to: number })}
            </Button>
          </Group>
          {following.length > 0 && (
            <span>{t("models.serving", { names: following.map(({ name }) => name).join(", ") })}</span>
          )}
          {move.error && <ErrorNote error={move.error} />}
        </Stack>
      </form>
    </Section>
  );
}
