/* SPDX-License-Identifier: MIT
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the probes of `holdfast doctor` fill in. */

#include <stdarg.h>

#include "base/text.h"
#include "cli/doctor/doctor.h"

void finding_set(struct finding *finding, enum verdict verdict, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(finding->summary, sizeof(finding->summary), format, arguments);
        va_end(arguments);
        (void)text_printable(finding->summary);
        finding->verdict = verdict;
}

void finding_quote(struct finding *finding, const char *format, ...) {
        size_t i = finding->n_evidence++;
        va_list arguments;

        if (i >= EVIDENCE_MAX)
                return;
        va_start(arguments, format);
        (void)vsnprintf(finding->evidence[i], EVIDENCE_SIZE, format, arguments);
        va_end(arguments);
        (void)text_printable(finding->evidence[i]);
}

void finding_cure(struct finding *finding, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(finding->cure, sizeof(finding->cure), format, arguments);
        va_end(arguments);
        (void)text_printable(finding->cure);
}

bool examination_has_daemon(const struct examination *examination) {
        enum snapshot_daemon daemon = examination->snapshot->daemon;

        return daemon == DAEMON_HOLDFAST || daemon == DAEMON_NVIDIA;
}
