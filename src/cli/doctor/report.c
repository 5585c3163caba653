/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Prints what `holdfast doctor` found. */

#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/doctor/doctor.h"

enum {
        HEAD_WIDTH = 8, /* "PROBLEM " */
        INDENT = 13,    /* where sentences go on: below "    evidence " */
};

/* How much is printed of a finding without --verbose, so that the whole fits on a screen. */
enum extent {
        EXTENT_NOTHING,
        EXTENT_NAMES, /* of the probes, all in one paragraph */
        EXTENT_LINE,  /* the sentence, and the first evidence */
        EXTENT_ALL,
};

/* In the order of printing. */
static const struct section {
        enum verdict verdict;
        const char *head;
        const char *key; /* in JSON */
        enum colour colour;
        enum extent extent;
} sections[] = {
        {VERDICT_PROBLEM, "PROBLEM", "problem", COLOUR_BAD, EXTENT_ALL},
        {VERDICT_NOTE, "NOTE", "note", COLOUR_WARNING, EXTENT_LINE},
        {VERDICT_UNKNOWN, "UNKNOWN", "cannot-tell", COLOUR_WARNING, EXTENT_NAMES},
        {VERDICT_OK, "OK", "ok", COLOUR_GOOD, EXTENT_NOTHING},
};

size_t doctor_count(const struct finding *findings, size_t n, enum verdict verdict) {
        size_t count = 0;

        for (size_t i = 0; i < n; i++)
                count += findings[i].verdict == verdict;
        return count;
}

/* ---- text -------------------------------------------------------------------- */

static void print_field(const char *name, const char *text, size_t width, FILE *stream) {
        (void)fprintf(stream, "    %-*s", INDENT - 4, name);
        text_wrap(stream, text, INDENT, INDENT, width);
}

/* Command and path are not broken into lines, so that they can be copied. */
static void print_details(const struct finding *finding, size_t width, FILE *stream) {
        size_t shown = finding->n_evidence < EVIDENCE_MAX ? finding->n_evidence : EVIDENCE_MAX;
        char rest[32];

        for (size_t i = 0; i < shown; i++)
                print_field(i == 0 ? "evidence" : "", finding->evidence[i], width, stream);
        if (finding->n_evidence > shown) {
                text_set(rest, "and %zu more", finding->n_evidence - shown);
                print_field("", rest, width, stream);
        }
        if (finding->cure[0] != '\0')
                print_field("cure", finding->cure, 0, stream);
        if (finding->verdict != VERDICT_OK)
                print_field("runbook", finding->runbook, 0, stream);
}

static void print_begin(const struct section *section, const struct report_style *style, FILE *stream) {
        colour_print(stream, style->colours, section->colour, section->head);
        (void)fprintf(stream, "%*s", (int)(HEAD_WIDTH - strlen(section->head)), "");
}

/* In one line: the sentence and the first evidence. */
static void describe(const struct probe *probe, const struct finding *finding, enum extent extent, char *buffer,
                     size_t size) {
        char more[32] = "";

        if (finding->n_evidence > 1)
                text_set(more, ", and %zu more", finding->n_evidence - 1);
        if (extent == EXTENT_LINE && finding->n_evidence > 0)
                (void)text_format(buffer, size, "%s: %s (%s%s)", probe->id, finding->summary, finding->evidence[0],
                                  more);
        else
                (void)text_format(buffer, size, "%s: %s", probe->id, finding->summary);
}

static void print_finding(const struct probe *probe, const struct finding *finding, const struct section *section,
                          enum extent extent, const struct report_style *style, FILE *stream) {
        char text[sizeof(finding->summary) + EVIDENCE_SIZE + 64];

        print_begin(section, style, stream);
        describe(probe, finding, extent, text, sizeof(text));
        text_wrap(stream, text, HEAD_WIDTH, INDENT, style->width);
        if (extent == EXTENT_ALL)
                print_details(finding, style->width, stream);
}

static void print_names(const struct probe *probes, const struct finding *findings, size_t n,
                        const struct section *section, const struct report_style *style, FILE *stream) {
        char text[1024] = "";

        for (size_t i = 0; i < n; i++)
                if (findings[i].verdict == section->verdict)
                        text_add_item(text, ", ", "%s", probes[i].id);
        print_begin(section, style, stream);
        text_wrap(stream, text, HEAD_WIDTH, HEAD_WIDTH, style->width);
}

static void print_head(const struct finding *findings, size_t n, const struct report_style *style, FILE *stream) {
        size_t problems = doctor_count(findings, n, VERDICT_PROBLEM);
        size_t unknown = doctor_count(findings, n, VERDICT_UNKNOWN), ok = doctor_count(findings, n, VERDICT_OK);
        char count[48];

        if (problems == 0)
                text_set(count, "no problem found");
        else
                text_set(count, "%zu problem%s found", problems, text_plural(problems));
        colour_print(stream, style->colours, problems == 0 ? COLOUR_GOOD : COLOUR_BAD, count);
        (void)fprintf(stream, " by %zu checks: %zu OK, %zu unknown\n", n, ok, unknown);
}

/* Returns whether there is more to print with --verbose. */
static bool print_section(const struct probe *probes, const struct finding *findings, size_t n,
                          const struct section *section, bool verbose, const struct report_style *style, FILE *stream) {
        enum extent extent = verbose ? EXTENT_ALL : section->extent;

        if (extent == EXTENT_NOTHING || doctor_count(findings, n, section->verdict) == 0)
                return false;
        if (extent != EXTENT_ALL)
                (void)fputc('\n', stream);
        if (extent == EXTENT_NAMES)
                print_names(probes, findings, n, section, style, stream);
        for (size_t i = 0; extent != EXTENT_NAMES && i < n; i++) {
                if (findings[i].verdict != section->verdict)
                        continue;
                if (extent == EXTENT_ALL)
                        (void)fputc('\n', stream);
                print_finding(&probes[i], &findings[i], section, extent, style, stream);
        }
        return extent != EXTENT_ALL;
}

void doctor_text(const struct probe *probes, const struct finding *findings, size_t n, bool verbose,
                 const struct report_style *style, FILE *stream) {
        bool more = false;

        print_head(findings, n, style, stream);
        for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
                more |= print_section(probes, findings, n, &sections[i], verbose, style, stream);
        if (more)
                (void)fputs("\nMore about these: holdfast doctor --verbose\n", stream);
}

/* ---- JSON -------------------------------------------------------------------- */

static const char *key_of(enum verdict verdict) {
        for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
                if (sections[i].verdict == verdict)
                        return sections[i].key;
        return "cannot-tell";
}

static json_t *evidence_json(const struct finding *finding) {
        json_t *evidence = json_array();

        for (size_t i = 0; i < finding->n_evidence && i < EVIDENCE_MAX; i++)
                (void)json_array_append_new(evidence, json_string(finding->evidence[i]));
        return evidence;
}

static json_t *finding_json(const struct probe *probe, const struct finding *finding) {
        return json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:o, s:s}", "id", probe->id, "title", probe->title, "verdict",
                         key_of(finding->verdict), "summary", finding->summary, "evidence", evidence_json(finding),
                         "evidence_total", (json_int_t)finding->n_evidence, "cure", report_json_text(finding->cure),
                         "runbook", probe->runbook);
}

json_t *doctor_json(const struct probe *probes, const struct finding *findings, size_t n) {
        json_t *checks = json_array();

        for (size_t i = 0; i < n; i++)
                (void)json_array_append_new(checks, finding_json(&probes[i], &findings[i]));
        return json_pack("{s:s, s:I, s:I, s:I, s:o}", "schema", "holdfast.doctor/1", "problems",
                         (json_int_t)doctor_count(findings, n, VERDICT_PROBLEM), "notes",
                         (json_int_t)doctor_count(findings, n, VERDICT_NOTE), "cannot_tell",
                         (json_int_t)doctor_count(findings, n, VERDICT_UNKNOWN), "checks", checks);
}
