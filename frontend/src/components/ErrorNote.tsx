import { Alert, List, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { apiError } from "@/api/errors";

/** What went wrong, in the platform's own sentence; with the fields it names, and the request's number. */
export function ErrorNote({ error, title }: { error: unknown; title?: string }) {
  const { t } = useTranslation();
  const known = apiError(error);
  const message = known?.message ?? (error instanceof TypeError ? t("common.unreachable") : t("common.broken"));
  const details = (known?.details ?? [])
    .map((detail) => {
      const { field, message: text } = detail as { field?: unknown; message?: unknown };
      return typeof text === "string" ? (field ? `${String(field)}: ${text}` : text) : "";
    })
    .filter((text) => text && text !== message);
  return (
    <Alert color="red" variant="light" title={title} role="alert">
      <Stack gap={4}>
        <Text size="sm">{message}</Text>
        {details.length > 0 && (
          <List size="sm">
            {details.map((text) => (
              <List.Item key={text}>{text}</List.Item>
            ))}
          </List>
        )}
        {known?.request_id && (
          <Text size="xs" c="dimmed">
            {t("common.request", { id: known.request_id })}
          </Text>
        )}
      </Stack>
    </Alert>
  );
}
