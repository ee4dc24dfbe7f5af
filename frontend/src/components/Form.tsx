import { Button, Group, Stack } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { fieldErrors } from "@/api/errors";
import { ErrorNote } from "./ErrorNote";

/** A form's values and the props of its fields: value, change, and what the server said of the field, which has the
 * request's name. Mantine's own library adds rules to check in the browser; here the server alone judges. */
export function useForm<Values extends Record<string, string | number>>(initial: Values, error: unknown) {
  const [values, setValues] = useState(initial);
  const errors = fieldErrors(error);
  type Name = keyof Values & string;
  const set = (name: Name, value: string | number) => setValues((before) => ({ ...before, [name]: value }));
  return {
    values,
    /** As they were at first. */
    clear: (...names: Name[]) =>
      setValues((before) => ({ ...before, ...Object.fromEntries(names.map((name) => [name, initial[name]])) })),
    /** Of a field to type in. */
    text: (name: Name) => ({
      value: String(values[name]),
      error: errors[name],
      required: true,
      onChange: (event: { currentTarget: { value: string } }) => set(name, event.currentTarget.value),
    }),
    /** Of a field for a number; while it is typed, it may be none. */
    number: (name: Name) => ({
      value: values[name],
      error: errors[name],
      required: true,
      onChange: (value: string | number) => set(name, value),
    }),
    /** Of a field to choose in. */
    choice: (name: Name) => ({
      value: String(values[name]),
      error: errors[name],
      allowDeselect: false,
      onChange: (value: string | null) => value !== null && set(name, value),
    }),
  };
}

interface Props {
  /** What its button says. */
  label: string;
  onSubmit: () => void;
  request: { isPending: boolean; error: unknown };
  /** Closes a form that opened over the page. */
  onCancel?: () => void;
  /** The fields stand in a row, the button behind them. */
  inline?: boolean;
  /** The button is as wide as its word. */
  narrow?: boolean;
  /** The button is not what the page is for. */
  quiet?: boolean;
  /** Said below the fields: what they mean, or that it worked. */
  note?: ReactNode;
  children: ReactNode;
}

/** Fields, what went wrong, and the button that sends them. */
export function Form({ label, onSubmit, request, onCancel, inline, narrow, quiet, note, children }: Props) {
  const { t } = useTranslation();
  const button = (
    <Button
      type="submit"
      loading={request.isPending}
      variant={quiet ? "default" : undefined}
      style={narrow ? { alignSelf: "flex-start" } : undefined}
    >
      {label}
    </Button>
  );
  const error = request.error != null && <ErrorNote error={request.error} />;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onSubmit();
      }}
    >
      <Stack gap={inline ? "xs" : narrow ? "sm" : "md"}>
        {inline ? (
          <Group align="flex-end">
            {children}
            {button}
          </Group>
        ) : (
          children
        )}
        {note}
        {error}
        {!inline &&
          (onCancel ? (
            <Group justify="flex-end">
              <Button variant="default" onClick={onCancel}>
                {t("common.cancel")}
              </Button>
              {button}
            </Group>
          ) : (
            button
          ))}
      </Stack>
    </form>
  );
}
