import { Button, Group, Modal, Stack } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api, reload } from "@/api/client";
import type { Deployment } from "@/api/types";
import { type DeploymentChoice, DeploymentFields } from "@/components/DeploymentFields";
import { ErrorNote } from "@/components/ErrorNote";

/** Another revision, or more or fewer nodes. */
export function ChangeDeployment({ deployment }: { deployment: Deployment }) {
  const { t } = useTranslation();
  const [opened, { open, close }] = useDisclosure(false);
  const { revision, replicas } = deployment;
  const [choice, setChoice] = useState<DeploymentChoice>({ revision, replicas });
  const [namespace = "", name = ""] = deployment.model.split("/");
  const path = { namespace, name };
  const model = api.useQuery("get", "/api/v1/models/{namespace}/{name}", { params: { path } }, { enabled: opened });
  const versions = api.useQuery(
    "get",
    "/api/v1/models/{namespace}/{name}/versions",
    { params: { path, query: { page_size: 200 } } },
    { enabled: opened },
  );
  const change = api.useMutation("patch", "/api/v1/deployments/{deployment_id}", {
    onSuccess: async () => {
      await reload("/api/v1/deployments", "/api/v1/nodes");
      close();
    },
  });
  const options = new Map([
    [revision, revision],
    ...(model.data?.aliases ?? []).map(
      ({ name: alias, version }) => [alias, t("models.follows", { alias, number: version })] as const,
    ),
    ...(versions.data?.results ?? []).map(({ number }) => [`v${number}`, t("models.fixed", { number })] as const),
  ]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    change.mutate({
      params: { path: { deployment_id: deployment.id } },
      body: { revision: choice.revision, replicas: Number(choice.replicas) },
    });
  };
  return (
    <>
      <Button variant="default" size="xs" onClick={open}>
        {t("serving.change")}
      </Button>
      <Modal opened={opened} onClose={close} title={t("serving.changeTitle", { name: deployment.name })} centered>
        <form onSubmit={submit}>
          <Stack>
            <DeploymentFields
              value={choice}
              onChange={setChoice}
              revisions={[...options].map(([value, label]) => ({ value, label }))}
            />
            {change.error && <ErrorNote error={change.error} />}
            <Group justify="flex-end">
              <Button variant="default" onClick={close}>
                {t("common.cancel")}
              </Button>
              <Button type="submit" loading={change.isPending}>
                {t("serving.change")}
              </Button>
            </Group>
          </Stack>
        </form>
      </Modal>
    </>
  );
}
