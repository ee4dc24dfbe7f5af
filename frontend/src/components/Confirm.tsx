import { Button, type ButtonProps, Group, Modal, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useTranslation } from "react-i18next";
import { ErrorNote } from "./ErrorNote";

interface Props extends ButtonProps {
  label: string;
  /** What happens, and to what: every destructive act says what it destroys. */
  question: string;
  act: () => Promise<unknown>;
  busy: boolean;
  error: unknown;
}

/** A button that asks before it acts. */
export function Confirm({ label, question, act, busy, error, color = "red", ...button }: Props) {
  const { t } = useTranslation();
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <>
      <Button variant="default" onClick={open} {...button}>
        {label}
      </Button>
      <Modal opened={opened} onClose={close} title={label} centered>
        <Stack>
          <Text size="sm">{question}</Text>
          {error != null && <ErrorNote error={error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>
              {t("common.keep")}
            </Button>
            <Button color={color} loading={busy} onClick={() => act().then(close, () => undefined)}>
              {label}
            </Button>
          </Group>
        </Stack>
      </Modal>
    </>
  );
}
