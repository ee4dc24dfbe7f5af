import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { client, queries } from "@/api/client";
import { forget, unfinished } from "@/api/upload";
import { bytes, dateTime, percent } from "@/lib/format";

const KEY = "unfinished-uploads";

/** Uploads that a lost connection or a reload has stopped: the same file, chosen again, goes on where it stopped. */
export function Unfinished({ workspace }: { workspace: string }) {
  const { t } = useTranslation();
  const query = useQuery({
    queryKey: [KEY, workspace],
    staleTime: 0,
    queryFn: async () => {
      const found = await unfinished(workspace);
      const known = found.map(async (upload) => {
        const { data } = await client.GET("/api/v1/uploads/{upload_id}", {
          params: { path: { upload_id: upload.id } },
        });
        if (!data) await forget(upload); // the server has swept it
        return data && { ...upload, offset: data.offset };
      });
      return (await Promise.all(known)).filter((upload) => upload !== undefined);
    },
  });
  if (!query.data?.length) return null;
  return (
    <Alert color="blue" title={t("datasets.unfinished")} data-testid="unfinished">
      <Stack gap={6}>
        {query.data.map((upload) => (
          <Group key={upload.key} gap="sm">
            <Text size="sm" className="breakable" style={{ flex: 1, minWidth: 200 }}>
              {t("datasets.unfinishedOne", {
                name: upload.name,
                share: percent(upload.offset / upload.size, 0),
                size: bytes(upload.size),
                when: dateTime(upload.begun.toISOString()),
              })}
            </Text>
            <Button
              size="compact-xs"
              variant="default"
              aria-label={t("datasets.forgetUpload", { name: upload.name })}
              onClick={() => void forget(upload).then(() => queries.invalidateQueries({ queryKey: [KEY] }))}
            >
              {t("datasets.forget")}
            </Button>
          </Group>
        ))}
      </Stack>
    </Alert>
  );
}
